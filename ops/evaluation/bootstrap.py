"""Intervals by resampling queries: pairs of one query are alike, so queries are what is drawn, with replacement.

The 95 % interval is that of the percentiles (Efron and Tibshirani 1993, chapter 13). Two scorers of the same pairs
are compared on the same resamples, so what the queries have in common cancels. The calibration error alone is
biased: noise adds to it, and resampling adds as much once more, so that its percentiles would lie above the
figure itself; they are moved down by that excess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from ops.evaluation.metrics import METRICS, Metric, Statistic, UndefinedError, ece
from ops.evaluation.pairs import Floats, ScoredPairs

RESAMPLES = 1_000
LEVEL = 0.95
#: With fewer queries the percentiles are far too narrow to be shown.
MIN_QUERIES = 10
#: A metric that is undefined in more of the resamples has no interval.
MAX_UNDEFINED = 0.05
#: Weights of pairs held at a time: 16 MB.
_BLOCK = 2_000_000


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A figure and its interval, 95 % unless it says otherwise; None where there is none, and `why` says why."""

    value: float | None
    lower: float | None = None
    upper: float | None = None
    why: str = ""


def resampled_weights(rng: np.random.Generator, *, queries: int, resamples: int = RESAMPLES) -> Floats:
    """Return how often each query is drawn in each resample, shape [resamples, queries]; rows sum to `queries`."""
    if queries == 0:
        return np.zeros((resamples, 0))
    return rng.multinomial(queries, np.full(queries, 1 / queries), size=resamples).astype(np.float64)


def estimate(metric: Metric, pairs: ScoredPairs, weights: Floats) -> Estimate:
    """Return a metric with its interval over the resamples `weights`, shape [resamples, queries]."""
    return mean_estimate(metric, [pairs], weights)


def difference(
    metric: Metric, ours: ScoredPairs, theirs: ScoredPairs, weights: Floats, *, level: float = LEVEL
) -> Estimate:
    """Return how much greater a metric is under our scores than under theirs, with its paired interval.

    The interval holds the share `level` of the resamples. Raises ValueError if the two are not the same pairs in the
    same order.
    """
    return mean_difference(metric, [ours], [theirs], weights, level=level)


def mean_estimate(metric: Metric, runs: Sequence[ScoredPairs], weights: Floats) -> Estimate:
    """Return a metric's mean over scorers of the same pairs, such as models of several seeds, with its interval.

    The interval is that of other queries, not of other seeds. Raises ValueError as `difference` does.
    """
    _check_same(runs)
    try:
        value, drawn = _mean(metric, runs, weights)
    except UndefinedError as error:
        return Estimate(value=None, why=str(error))
    if metric is ece:
        drawn = np.maximum(drawn - np.nanmean(drawn) + value, 0)
    return _with_interval(value, drawn, runs[0].queries)


def mean_difference(
    metric: Metric,
    ours: Sequence[ScoredPairs],
    theirs: Sequence[ScoredPairs],
    weights: Floats,
    *,
    level: float = LEVEL,
) -> Estimate:
    """Return how much greater a metric's mean is over our scorers than over theirs, with its paired interval.

    Raises ValueError if not all score the same pairs in the same order.
    """
    _check_same([*ours, *theirs])
    try:
        mine, my_drawn = _mean(metric, ours, weights)
        other, other_drawn = _mean(metric, theirs, weights)
    except UndefinedError as error:
        return Estimate(value=None, why=str(error))
    value, drawn = mine - other, my_drawn - other_drawn
    if metric is ece:
        drawn = drawn - np.nanmean(drawn) + value
    return _with_interval(value, drawn, ours[0].queries, level)


def estimates(
    pairs: ScoredPairs,
    rng: np.random.Generator,
    *,
    metrics: Mapping[str, Metric] = METRICS,
    resamples: int = RESAMPLES,
) -> dict[str, Estimate]:
    """Return each metric with its interval, all over the same resamples."""
    weights = resampled_weights(rng, queries=pairs.queries, resamples=resamples)
    return {name: estimate(metric, pairs, weights) for name, metric in metrics.items()}


def _mean(metric: Metric, runs: Sequence[ScoredPairs], weights: Floats) -> tuple[float, Floats]:
    """Return a metric's mean over the runs, and that in each resample, shape [resamples]."""
    statistics = [(metric(pairs), pairs) for pairs in runs]
    values = [float(statistic(np.ones((1, pairs.queries)))[0]) for statistic, pairs in statistics]
    drawn: Floats = np.mean([_values(statistic, pairs, weights) for statistic, pairs in statistics], axis=0)
    return float(np.mean(values)), drawn


def _check_same(runs: Sequence[ScoredPairs]) -> None:
    first = runs[0]
    for other in runs[1:]:
        if not (np.array_equal(first.query, other.query) and np.array_equal(first.grade, other.grade)):
            raise ValueError(
                f"a paired difference needs the same pairs in the same order, got {len(first)} pairs of "
                f"{first.queries} queries and {len(other)} of {other.queries}, or other grades"
            )


def _values(statistic: Statistic, pairs: ScoredPairs, weights: Floats) -> Floats:
    rows = max(1, _BLOCK // max(1, len(pairs)))
    return np.concatenate([statistic(weights[at : at + rows]) for at in range(0, len(weights), rows)])


def _with_interval(value: float, drawn: Floats, queries: int, level: float = LEVEL) -> Estimate:
    if queries < MIN_QUERIES:
        return Estimate(value=value, why=f"no interval: {queries} queries, {MIN_QUERIES} are needed")
    undefined = float(np.isnan(drawn).mean())
    if undefined > MAX_UNDEFINED:
        return Estimate(value=value, why=f"no interval: undefined in {undefined:.0%} of the resamples")
    tail = (1 - level) / 2
    lower, upper = np.nanquantile(drawn, [tail, 1 - tail])
    return Estimate(value=value, lower=float(lower), upper=float(upper))
