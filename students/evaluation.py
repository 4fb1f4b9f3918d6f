"""How good a student is on pairs whose grade is known: overall, by class of traffic, and against another scorer.

Metrics and intervals are those of `ops.evaluation`: bootstrap over queries, differences on the same resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
import numpy as np

from ops.evaluation import bootstrap
from ops.evaluation.bootstrap import Estimate
from ops.evaluation.metrics import METRICS, Metric, UndefinedError, accuracy_of
from ops.evaluation.pairs import ScoredPairs, scored_pairs
from students.grades import GradeScale
from students.saved import LoadedStudent
from students.scoring import Scores, score_pairs

SHOWN = ("auc", "pr_auc", "ndcg_at_10", "spearman", "ece", "accuracy")


class GradedPair(Protocol):
    """A pair whose grade is known, in cleaned texts; `traffic_class` is head, torso, tail or empty."""

    @property
    def query(self) -> str:
        """Return the query."""

    @property
    def item_text(self) -> str:
        """Return the item's text."""

    @property
    def grade(self) -> str:
        """Return the known grade."""

    @property
    def traffic_class(self) -> str:
        """Return the query's class of traffic."""


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the pairs, its size, and the figures on it by metric."""

    queries: int
    pairs: int
    figures: dict[str, Estimate]


def metrics_of(scale: GradeScale) -> dict[str, Metric]:
    """Return the metrics of a student by name: `SHOWN`, and accuracy by grade."""
    return {name: METRICS[name] for name in SHOWN} | {
        f"accuracy_{label}": accuracy_of(label) for label in scale.labels
    }


def scored(pairs: Sequence[GradedPair], scores: Scores, scale: GradeScale) -> ScoredPairs:
    """Return pairs with a student's scores. Raises ValueError for a grade that is not on the scale."""
    return scored_pairs(
        gains=scale.by_label,
        queries=[pair.query for pair in pairs],
        scores=scores.scores.astype(np.float64),
        grades=[pair.grade for pair in pairs],
        predicted=scores.grades(scale.labels),
        strata=[pair.traffic_class for pair in pairs],
    )


def scored_by(student: LoadedStudent, pairs: Sequence[GradedPair], *, bf16: bool = False) -> ScoredPairs:
    """Return pairs with the student's scores of them."""
    found = score_pairs(student, [(pair.query, pair.item_text) for pair in pairs], bf16=bf16)
    return scored(pairs, found, student.description.scale)


def figures(
    pairs: ScoredPairs, *, scale: GradeScale, seed: int, resamples: int = bootstrap.RESAMPLES
) -> dict[str, Cut]:
    """Return every metric with its interval, overall (`all`) and by class of traffic."""
    return {
        name: Cut(
            queries=kept.queries,
            pairs=len(kept),
            figures=bootstrap.estimates(
                kept, np.random.default_rng(seed), metrics=metrics_of(scale), resamples=resamples
            ),
        )
        for name, kept in pairs.cuts().items()
    }


def differences(
    ours: ScoredPairs,
    theirs: ScoredPairs,
    *,
    metrics: Mapping[str, Metric],
    seed: int,
    resamples: int = bootstrap.RESAMPLES,
) -> dict[str, Cut]:
    """Return how much greater each metric is under our scores, with paired intervals, overall and by class.

    Raises ValueError if the two are not the same pairs in the same order.
    """
    others = theirs.cuts()
    found = {}
    for name, mine in ours.cuts().items():
        weights = bootstrap.resampled_weights(
            np.random.default_rng(seed), queries=mine.queries, resamples=resamples
        )
        found[name] = Cut(
            queries=mine.queries,
            pairs=len(mine),
            figures={
                metric: bootstrap.difference(function, mine, others[name], weights)
                for metric, function in metrics.items()
            },
        )
    return found


def point_figures(pairs: ScoredPairs, names: Sequence[str] = ("auc", "ndcg_at_10")) -> dict[str, float]:
    """Return metrics without intervals, those that the pairs define: for watching a run."""
    found = {}
    for name in names:
        try:
            statistic = METRICS[name](pairs)
        except UndefinedError:
            continue
        found[name] = float(statistic(np.ones((1, pairs.queries)))[0])
    return found
