"""Engagement as a late correction of a content score: what shoppers did moves a score a little, and never far.

    evidence  = ln((clicks + k) / (expected clicks + k)), cut to [-ln 4, ln 4]
    corrected = sigmoid(logit(score) + weight * evidence),   0 <= weight <= MAX_WEIGHT

Clicks are compared with those that the same impressions bring at their positions on average (COEC), so being shown
often says nothing: popular is not relevant. `k` is how many expected clicks it takes to be believed. Both parameters
are fitted on graded pairs with the content score fixed, so behaviour is never a label. The most that behaviour can do
is to multiply the odds by 4 ** MAX_WEIGHT = 2: an irrelevant item at 0.05 stays below 0.1 whatever shoppers do.

The formula is ours. It is off unless a caller fits and applies it; `python -m ops.bench.engagement_correction` tells
whether that is worth it on the simulated shop.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MAX_EVIDENCE = math.log(4)
MAX_WEIGHT = 0.5
#: Prior strengths that are tried, in expected clicks.
PRIORS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
WEIGHTS = 51
FOLDS = 5
SURE = 3.0
#: Log losses are of probabilities so far from 0 and 1 at least.
MARGIN = 1e-6


class EngagementCorrection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fitted parameters; `weight` 0 leaves every score as it is."""

    weight: float
    prior: float

    def __post_init__(self) -> None:
        """Raise ValueError for parameters that would not be bounded."""
        if not (0 <= self.weight <= MAX_WEIGHT and 0 < self.prior < math.inf):
            raise ValueError(
                f"expected a weight in [0, {MAX_WEIGHT}] and a prior > 0, got {self.weight} and {self.prior}"
            )

    def apply(self, score: Floats, clicks: Floats, expected_clicks: Floats) -> Floats:
        """Return the corrected scores in [0, 1], shape [n], of pairs' content scores in [0, 1] and engagement >= 0.

        Without engagement a score stays as it is. Raises ValueError for columns of other shapes or ranges.
        """
        _check(score, clicks, expected_clicks)
        if not self.weight:
            return score.copy()
        moved = self.weight * evidence(clicks, expected_clicks, prior=self.prior)
        return np.where(moved == 0, score, _moved(score, moved))


def evidence(clicks: Floats, expected_clicks: Floats, *, prior: float) -> Floats:
    """Return what behaviour says of pairs, in [-ln 4, ln 4]: above 0 if clicked more than expected."""
    ratio = np.log((clicks + prior) / (expected_clicks + prior))
    found: Floats = np.clip(ratio, -MAX_EVIDENCE, MAX_EVIDENCE)
    return found


def fit(
    score: Floats,
    clicks: Floats,
    expected_clicks: Floats,
    gain: Floats,
    query: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> EngagementCorrection:
    """Return the correction that best predicts gains in [0, 1] of pairs, shape [n], by log loss.

    It must also surely win on queries that it was not fitted on (`FOLDS` parts, drawn by `rng`; `SURE` standard
    errors over queries), or the weight is 0. `query` numbers the queries. Raises ValueError as `apply` does, and for
    fewer queries than folds.
    """
    _check(score, clicks, expected_clicks, gain)
    names = np.unique(query)
    if len(names) < FOLDS:
        raise ValueError(f"expected at least {FOLDS} queries to fit on, got {len(names)}")
    part = rng.permutation(len(names)) % FOLDS
    fold = part[np.searchsorted(names, query)]
    losses = {prior: _losses(score, evidence(clicks, expected_clicks, prior=prior), gain) for prior in PRIORS}
    gained = np.zeros(len(names))
    for number in range(FOLDS):
        held_out = fold == number
        prior, place = _best({of: loss[:, ~held_out].sum(axis=1) for of, loss in losses.items()})
        better = losses[prior][0] - losses[prior][place]
        gained += np.bincount(
            np.searchsorted(names, query), weights=np.where(held_out, better, 0), minlength=len(names)
        )
    prior, place = _best({of: loss.sum(axis=1) for of, loss in losses.items()})
    # The square root is what a sum of so many independent gains around 0 would be off by.
    sure = gained.sum() > SURE * np.sqrt((gained**2).sum())
    weight = float(np.linspace(0, MAX_WEIGHT, WEIGHTS)[place]) if sure else 0.0
    return EngagementCorrection(weight=weight, prior=prior)


def _best(losses: dict[float, Floats]) -> tuple[float, int]:
    prior = min(losses, key=lambda of: float(losses[of].min()))
    return prior, int(losses[prior].argmin())


def _losses(score: Floats, says: Floats, gain: Floats) -> Floats:
    """Return the log loss of each pair under each weight, shape [WEIGHTS, n]."""
    p = np.stack([_moved(score, weight * says) for weight in np.linspace(0, MAX_WEIGHT, WEIGHTS)])
    p = np.clip(p, MARGIN, 1 - MARGIN)
    found: Floats = -(gain * np.log(p) + (1 - gain) * np.log1p(-p))
    return found


def _moved(score: Floats, by: Floats) -> Floats:
    """Return scores with their log-odds moved; 0 and 1 stay."""
    odds = np.exp(by)
    moved: Floats = score * odds / (score * odds + (1 - score))
    return moved


def _check(score: Floats, clicks: Floats, expected_clicks: Floats, *gain: Floats) -> None:
    for name, column in (("score", score), *(("gain", one) for one in gain)):
        if not ((column >= 0) & (column <= 1)).all():
            raise ValueError(f"expected every {name} in [0, 1]")
    for name, column in (("clicks", clicks), ("expected clicks", expected_clicks)):
        if not (np.isfinite(column) & (column >= 0)).all():
            raise ValueError(f"expected {name} >= 0")
    if len({column.shape for column in (score, clicks, expected_clicks, *gain)}) > 1:
        raise ValueError("expected columns of one length")
