"""How far a precision's scores are from fp32's, and what is too far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from students.batching import Floats

#: Fewer pairs say nothing about an order.
LEAST_PAIRS = 8


class FidelityError(ValueError):
    """A graph does not score as it should. The message holds the figures and the limits."""


@dataclass(frozen=True, slots=True)
class FidelityLimits:
    """`mean_error` and `largest_error` of scores in [0, 1], and the least rank correlation (Spearman) with fp32.

    Below `spread`, the standard deviation of fp32's scores, their order is chance and is not asked for.
    """

    mean_error: float = 0.02
    largest_error: float = 0.25
    rank_correlation: float = 0.97
    spread: float = 0.02


def figures(reference: Floats, scores: Floats) -> dict[str, float]:
    """Return `mean_error`, `largest_error` and `rank_correlation` (1 where the reference is constant).

    >>> figures(np.array([0.0, 0.5, 1.0]), np.array([0.1, 0.5, 1.0]))["largest_error"]
    0.1
    """
    errors = np.abs(reference - scores)
    constant = np.ptp(reference) == 0 or np.ptp(scores) == 0
    return {
        "mean_error": float(errors.mean()),
        "largest_error": float(errors.max()),
        "rank_correlation": 1.0 if constant else float(spearmanr(reference, scores).statistic),
    }


def check(precision: str, reference: Floats, scores: Floats, limits: FidelityLimits) -> dict[str, float]:
    """Return the figures. Raises FidelityError beyond the limits, for too few pairs, or scores outside [0, 1]."""
    if len(reference) < LEAST_PAIRS:
        raise FidelityError(
            f"expected at least {LEAST_PAIRS} pairs to compare precisions on, got {len(reference)}"
        )
    if not np.isfinite(scores).all() or scores.min() < 0 or scores.max() > 1:
        raise FidelityError(f"expected {precision} scores in [0, 1], got {scores.min()} to {scores.max()}")
    found = figures(reference, scores)
    wrong = []
    if found["mean_error"] > limits.mean_error:
        wrong.append(f"mean error {found['mean_error']:.4f}, at most {limits.mean_error}")
    if found["largest_error"] > limits.largest_error:
        wrong.append(f"largest error {found['largest_error']:.4f}, at most {limits.largest_error}")
    ordered = float(reference.std()) >= limits.spread
    if ordered and found["rank_correlation"] < limits.rank_correlation:
        wrong.append(f"rank correlation {found['rank_correlation']:.4f}, at least {limits.rank_correlation}")
    if wrong:
        raise FidelityError(
            f"{precision} does not score as fp32 does on {len(reference)} pairs: {'; '.join(wrong)}"
        )
    return found
