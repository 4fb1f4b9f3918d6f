"""Metrics of scored pairs as functions of how often each query counts.

A metric takes pairs and returns a *statistic*: a function from query weights, shape [r, queries], to r values. All
weights 1 give the metric itself; the counts of a bootstrap resample give its value there without copying a pair,
so sorting and counting are paid once: 1,000 resamples of 3,000 pairs take at most 0.15 s a metric. A
metric raises UndefinedError where the pairs do not define it; a statistic returns NaN for such a resample.

Weighted with whole numbers every value equals that of the pairs repeated so often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ops.evaluation.pairs import Bools, Floats, Ints, ScoredPairs

#: Rows of weights to values; see the module.
Statistic = Callable[[npt.NDArray[np.float64]], Floats]
Metric = Callable[[ScoredPairs], Statistic]

NDCG_DEPTH = 10
ECE_BINS = 10


class UndefinedError(ValueError):
    """The pairs do not define the metric. The message says why."""


def auc(pairs: ScoredPairs) -> Statistic:
    """Area under the ROC curve over all pairs: relevant ones against the rest, ties count half."""
    _both_classes(pairs)
    groups = _tie_groups(pairs.score)
    relevant = pairs.relevant[groups.order]

    def statistic(weights: Floats) -> Floats:
        hits, misses = _by_class(weights, pairs.query[groups.order], relevant, groups.starts)
        below = np.cumsum(misses, axis=1) - misses
        return _ratio((hits * (below + misses / 2)).sum(axis=1), hits.sum(axis=1) * misses.sum(axis=1))

    return statistic


def pr_auc(pairs: ScoredPairs) -> Statistic:
    """Area under the precision-recall curve as average precision: precision at each score, summed over recall."""
    _both_classes(pairs)
    groups = _tie_groups(-pairs.score)
    relevant = pairs.relevant[groups.order]

    def statistic(weights: Floats) -> Floats:
        hits, misses = _by_class(weights, pairs.query[groups.order], relevant, groups.starts)
        above = np.cumsum(hits, axis=1)
        # A group of tied pairs that a resample left out has no hits, and so no share.
        precision = above / np.maximum(above + np.cumsum(misses, axis=1), 1e-300)
        both_kinds = misses.any(axis=1)
        return _ratio((hits * precision).sum(axis=1), above[:, -1] * both_kinds)

    return statistic


def spearman(pairs: ScoredPairs) -> Statistic:
    """Spearman's rank correlation of score and gain over all pairs, ties by their mean rank."""
    for name, values in (("score", pairs.score), ("gain", pairs.gain)):
        if len(np.unique(values)) < 2:
            raise UndefinedError(f"all {len(pairs)} pairs have the same {name}")
    sides = [(values, _tie_groups(values)) for values in (pairs.score, pairs.gain)]

    def statistic(weights: Floats) -> Floats:
        of_pair = weights[:, pairs.query]
        total = of_pair.sum(axis=1, keepdims=True)
        ranks = []
        for _, groups in sides:
            count = np.add.reduceat(of_pair[:, groups.order], groups.starts, axis=1)
            middle = np.cumsum(count, axis=1) - count / 2
            centred = np.empty_like(of_pair)
            centred[:, groups.order] = np.repeat(middle, groups.sizes, axis=1)
            ranks.append(centred - total / 2)
        left, right = ranks
        squares = (of_pair * left * left).sum(axis=1) * (of_pair * right * right).sum(axis=1)
        return _ratio((of_pair * left * right).sum(axis=1), np.sqrt(squares))

    return statistic


def ndcg(pairs: ScoredPairs) -> Statistic:
    """Mean over queries of nDCG@10: DCG = sum of gain / log2(1 + rank), over that of the best order.

    Tied scores get the mean of their orders. Queries without any gain above 0 have no nDCG and those with one
    item have always 1: both are left out (`ranked_queries` counts the rest).
    """
    ranked = _ranked(pairs)
    if not ranked.any():
        raise UndefinedError("no query has two items and a gain above 0")
    # Takes a second to import, which the other metrics need not wait for.
    from sklearn.metrics import ndcg_score

    values = np.zeros(pairs.queries)
    for number, rows in _rows_by_query(pairs.query):
        if ranked[number]:
            values[number] = ndcg_score([pairs.gain[rows]], [pairs.score[rows]], k=NDCG_DEPTH)

    def statistic(weights: Floats) -> Floats:
        return _ratio(weights @ values, weights @ ranked.astype(np.float64))

    return statistic


def ranked_queries(pairs: ScoredPairs) -> int:
    """Return how many queries nDCG is the mean of."""
    return int(_ranked(pairs).sum())


def kappa(pairs: ScoredPairs) -> Statistic:
    """Cohen's kappa of predicted and known grades, disagreement weighted by the square of the steps between."""
    predicted = _predicted(pairs)
    size = len(pairs.labels)
    if len(np.unique(np.concatenate([predicted, pairs.grade]))) < 2:
        raise UndefinedError("all grades, known and predicted, are the same")
    cells = _sums_by_query(pairs, predicted * size + pairs.grade, size * size, np.ones(len(pairs)))
    steps = np.arange(size, dtype=np.float64)
    cost = (steps[:, None] - steps[None, :]) ** 2

    def statistic(weights: Floats) -> Floats:
        counts = (weights @ cells).reshape(-1, size, size)
        by_chance = counts.sum(axis=2)[:, :, None] * counts.sum(axis=1)[:, None, :]
        observed, expected = (counts * cost).sum(axis=(1, 2)), (by_chance * cost).sum(axis=(1, 2))
        return 1.0 - _ratio(observed * counts.sum(axis=(1, 2)), expected)

    return statistic


def accuracy(pairs: ScoredPairs) -> Statistic:
    """Share of pairs whose predicted grade is the known one."""
    return _share(pairs, _predicted(pairs) == pairs.grade, np.ones(len(pairs), dtype=np.bool_))


def accuracy_of(label: str) -> Metric:
    """Return the metric: of the pairs with this known grade, the share whose predicted grade is it."""

    def metric(pairs: ScoredPairs) -> Statistic:
        of_grade: Bools = pairs.grade == pairs.labels.index(label)
        if not of_grade.any():
            raise UndefinedError(f"no pair has grade {label}")
        return _share(pairs, _predicted(pairs) == pairs.grade, of_grade)

    return metric


def ece(pairs: ScoredPairs) -> Statistic:
    """Expected calibration error of the score as a forecast of the gain (Guo et al. 2017, arXiv 1706.04599).

    The scores fall into 10 bins of equal width; it is the mean over pairs of |mean score - mean gain| of their
    bin. With the gains 1 and 0 a gain is relevance itself. Noise makes it larger, never smaller: on few pairs
    it stands above 0 for a perfect forecast.
    """
    if not len(pairs):
        raise UndefinedError("there are no pairs")
    bins = np.minimum((pairs.score * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    errors = _sums_by_query(pairs, bins, ECE_BINS, pairs.score - pairs.gain)
    sizes = np.bincount(pairs.query, minlength=pairs.queries).astype(np.float64)

    def statistic(weights: Floats) -> Floats:
        return _ratio(np.abs(weights @ errors).sum(axis=1), weights @ sizes)

    return statistic


#: What a scorer is judged by, by name. Those of grades are undefined for a scorer that predicts none.
METRICS: Mapping[str, Metric] = {
    "auc": auc,
    "pr_auc": pr_auc,
    "ndcg_at_10": ndcg,
    "spearman": spearman,
    "kappa": kappa,
    "accuracy": accuracy,
    "ece": ece,
}


@dataclass(frozen=True, slots=True)
class _TieGroups:
    """Pairs in rising order of a value; group g of equal ones begins at `starts[g]` and has `sizes[g]` pairs."""

    order: Ints
    starts: Ints
    sizes: Ints


def _tie_groups(values: Floats) -> _TieGroups:
    order = np.argsort(values, kind="stable")
    inner = np.flatnonzero(np.diff(values[order])) + 1
    starts = np.concatenate([[0], inner])
    return _TieGroups(order, starts, np.diff(np.append(starts, len(values))))


def _by_class(weights: Floats, query: Ints, relevant: Bools, starts: Ints) -> tuple[Floats, Floats]:
    """Return the weight of relevant and of other pairs in each tie group, both of shape [r, groups]."""
    of_pair = weights[:, query]
    hits = np.add.reduceat(of_pair * relevant, starts, axis=1)
    return hits, np.add.reduceat(of_pair, starts, axis=1) - hits


def _sums_by_query(pairs: ScoredPairs, column: Ints, columns: int, values: Floats) -> Floats:
    """Return the sums of `values` by query and `column`, shape [queries, columns]."""
    cell = pairs.query * columns + column
    flat = np.bincount(cell, weights=values, minlength=pairs.queries * columns).astype(np.float64)
    return flat.reshape(pairs.queries, columns)


def _share(pairs: ScoredPairs, right: Bools, counted: Bools) -> Statistic:
    if not counted.any():
        raise UndefinedError("there are no pairs")
    hits = np.bincount(pairs.query, weights=right & counted, minlength=pairs.queries)
    sizes = np.bincount(pairs.query, weights=counted, minlength=pairs.queries)

    def statistic(weights: Floats) -> Floats:
        return _ratio(weights @ hits, weights @ sizes)

    return statistic


def _ranked(pairs: ScoredPairs) -> Bools:
    best = np.bincount(pairs.query, weights=pairs.gain, minlength=pairs.queries)
    found: Bools = (best > 0) & (np.bincount(pairs.query, minlength=pairs.queries) > 1)
    return found


def _rows_by_query(query: Ints) -> Iterator[tuple[int, Ints]]:
    order = np.argsort(query, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(query[order])) + 1):
        yield int(query[rows[0]]), rows


def _both_classes(pairs: ScoredPairs) -> None:
    hits = int(pairs.relevant.sum())
    if hits in (0, len(pairs)):
        raise UndefinedError(f"{hits} of {len(pairs)} pairs are relevant: both kinds are needed")


def _predicted(pairs: ScoredPairs) -> Ints:
    if pairs.predicted is None:
        raise UndefinedError("no grades predicted")
    return pairs.predicted


def _ratio(above: Floats, below: Floats) -> Floats:
    """Return `above / below`, NaN where `below` is 0."""
    found: Floats = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return found
