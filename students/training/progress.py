"""How far a run is: means of the losses since the last line, speed, and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from students.training.curves import Check, Curve, Point


class Progress:
    """Gathers the steps of a run into the points of its curve, and says a line for each."""

    def __init__(self, curve: Curve, *, done: int, total: int, say: Callable[[str], None]) -> None:
        """Take the curve so far, the steps done and in all."""
        self.curve = curve
        self.began_at = done
        self.began_s = time.monotonic()
        self.pairs = 0
        self._total = total
        self._say = say
        self._losses: dict[str, Tensor] = {}
        self._steps = 0
        self._pairs = 0
        self._since_s = self.began_s

    def add(self, losses: Mapping[str, Tensor], *, pairs: int) -> None:
        """Take in one step."""
        for name, value in losses.items():
            self._losses[name] = self._losses.get(name, torch.zeros(())) + value.float().cpu()
        self._steps += 1
        self._pairs += pairs
        self.pairs += pairs

    @property
    def finite(self) -> bool:
        """Tell whether the losses so far are numbers."""
        return bool(torch.isfinite(self._losses["loss"]))

    @property
    def silent_s(self) -> float:
        """Return the seconds since the last point."""
        return time.monotonic() - self._since_s

    @property
    def seconds(self) -> float:
        """Return the seconds since the run was started."""
        return time.monotonic() - self.began_s

    def point(self, *, step: int, epoch: int, learning_rate: float) -> None:
        """Add a point to the curve and say it."""
        means = {name: (value / self._steps).item() for name, value in self._losses.items()}
        made = Point(
            step=step,
            epoch=epoch,
            loss=means.pop("loss"),
            parts=means,
            learning_rate=learning_rate,
            pairs_per_s=round(self._pairs / max(self.silent_s, 1e-9), 2),
        )
        self.curve.points.append(made)
        self._say(self._line(made))
        self._losses, self._steps, self._pairs = {}, 0, 0
        self._since_s = time.monotonic()

    def check(self, *, step: int, epoch: int, figures: Mapping[str, float]) -> None:
        """Add held-out figures to the curve and say them."""
        self.curve.checks.append(Check(step=step, epoch=epoch, figures=dict(figures)))
        told = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        self._say(f"epoch {epoch}: {told}")

    def _line(self, point: Point) -> str:
        parts = ", ".join(f"{name} {value:.3f}" for name, value in point.parts.items())
        left_s = (self._total - point.step) * self.seconds / max(1, point.step - self.began_at)
        left = f"{left_s / 60:.0f} min" if left_s >= 120 else f"{left_s:.0f} s"
        return (
            f"step {point.step:,} of {self._total:,}, loss {point.loss:.4f} ({parts}), "
            f"{point.pairs_per_s:.1f} pairs/s, {left} left"
        )
