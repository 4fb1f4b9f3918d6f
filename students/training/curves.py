"""How a run went: its losses by step and its figures by epoch, as JSON and as a picture."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec

from ops.files import write_atomically

JSON, PICTURE = "curves.json", "curves.svg"


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """Means since the point before, up to `step`: the sum of the losses and each before its weight."""

    step: int
    epoch: int
    loss: float
    parts: dict[str, float]
    learning_rate: float
    pairs_per_s: float


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """Figures on the pairs held out for watching, after `step`."""

    step: int
    epoch: int
    figures: dict[str, float]


class Curve(msgspec.Struct, kw_only=True):
    """All points of a run, in order."""

    points: list[Point] = []
    checks: list[Check] = []


def encode(curve: Curve) -> bytes:
    """Return the curve as JSON."""
    return msgspec.json.encode(curve)


def decode(content: bytes) -> Curve:
    """Return the curve of JSON. Raises msgspec.DecodeError."""
    return msgspec.json.decode(content, type=Curve)


def save(folder: Path, curve: Curve) -> None:
    """Write the curve and its picture."""
    write_atomically(folder / JSON, msgspec.json.format(encode(curve)) + b"\n")
    write_atomically(folder / PICTURE, picture(curve))


def picture(curve: Curve) -> bytes:
    """Return an SVG: the losses by step, beside them the held-out figures if there are any."""
    # Half a second to import, and only the end of a run draws.
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10 if curve.checks else 6, 3.6), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(1, 2 if curve.checks else 1, squeeze=False)[0]
    steps = [point.step for point in curve.points]
    axes[0].plot(steps, [point.loss for point in curve.points], label="sum", color="black")
    for name in sorted({name for point in curve.points for name in point.parts}):
        known = [point for point in curve.points if name in point.parts]
        axes[0].plot([each.step for each in known], [each.parts[name] for each in known], label=name)
    axes[0].set(xlabel="step", ylabel="loss, nats")
    axes[0].legend(fontsize="small")
    for name in sorted({name for check in curve.checks for name in check.figures}):
        seen = [check for check in curve.checks if name in check.figures]
        axes[1].plot(
            [each.step for each in seen], [each.figures[name] for each in seen], label=name, marker="o"
        )
    if curve.checks:
        axes[1].set(xlabel="step", ylabel="held out")
        axes[1].legend(fontsize="small")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()
