"""The relevance scale as plain data, and the score: the expectation of the grades' gains.

The default is the scale of the Amazon Shopping Queries data set (Reddy et al. 2022, arXiv 2206.06588) with the
gains it ranks by. A student keeps the scale that it was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from torch import Tensor

#: How far the sum of a distribution may be from 1.
TOLERANCE = 1e-3


class GradeError(ValueError):
    """A grade or a distribution does not fit the scale. The message says what was expected and what came."""


class GradeScale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The grades' labels, best first, and their gains in [0, 1], never rising."""

    labels: tuple[str, ...]
    gains: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raise GradeError for something that is no scale."""
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise GradeError(
                f"expected at least two different grades, got {', '.join(self.labels) or 'none'}"
            )
        if len(self.gains) != len(self.labels):
            raise GradeError(f"expected {len(self.labels)} gains, one for each grade, got {len(self.gains)}")
        falling = list(self.gains) == sorted(self.gains, reverse=True) and self.gains[0] > self.gains[-1]
        if not falling or not all(0 <= gain <= 1 for gain in self.gains):
            raise GradeError(f"expected gains in [0, 1] from best to worst, got {self.gains}")

    @classmethod
    def of(cls, gains: Mapping[str, float]) -> GradeScale:
        """Return the scale of a mapping from labels, best first, to gains."""
        return cls(labels=tuple(gains), gains=tuple(gains.values()))

    @property
    def by_label(self) -> dict[str, float]:
        """Return each label's gain."""
        return dict(zip(self.labels, self.gains, strict=True))

    def position(self, label: str) -> int:
        """Return a grade's place, the best being 0. Raises GradeError for a label that is not on the scale."""
        if label not in self.labels:
            raise GradeError(f"expected a grade among {', '.join(self.labels)}, got {label!r}")
        return self.labels.index(label)

    def distribution(self, grades: Mapping[str, float]) -> tuple[float, ...]:
        """Return probabilities in the scale's order, summing to 1 but for rounding.

        Raises GradeError for a missing or unknown grade, a value outside [0, 1], a sum that is not 1.

        >>> ESCI.distribution({"I": 0.1, "E": 0.6, "S": 0.3, "C": 0.0})
        (0.6, 0.3, 0.0, 0.1)
        """
        if set(grades) != set(self.labels):
            raise GradeError(
                f"expected probabilities of {', '.join(self.labels)}, got {', '.join(grades) or 'none'}"
            )
        values = [float(grades[label]) for label in self.labels]
        total = math.fsum(values)
        if not all(0 <= value <= 1 for value in values) or abs(total - 1) > TOLERANCE:
            raise GradeError(f"expected probabilities that sum to 1, got {values} with sum {total:.6g}")
        return tuple(value / total for value in values)


ESCI = GradeScale(labels=("E", "S", "C", "I"), gains=(1.0, 0.1, 0.01, 0.0))


def relevance_score(grade_logits: Tensor, gains: Tensor) -> Tensor:
    """Return the expected gain, in [0, 1]: [..., G] logits and [G] gains give [...], in float32 or wider.

    >>> import torch
    >>> relevance_score(torch.tensor([[0.0, 0.0]]), torch.tensor([1.0, 0.0])).tolist()
    [0.5]
    """
    # Whoever reads grades need not wait for it.
    import torch

    wide = torch.promote_types(grade_logits.dtype, torch.float32)
    return (torch.softmax(grade_logits.to(wide), dim=-1) * gains.to(wide)).sum(dim=-1).clamp(0.0, 1.0)
