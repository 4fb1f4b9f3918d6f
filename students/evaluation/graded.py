"""A student's scores beside the grades that are known, and the metrics it is judged by (`ops.evaluation`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ops.evaluation.metrics import METRICS, Metric, UndefinedError, accuracy_of
from ops.evaluation.pairs import ScoredPairs, scored_pairs
from students.evaluation.scoring import Scores, score_pairs
from students.examples import TrainingExample
from students.grades import GradeScale
from students.saved import LoadedStudent

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


def judged_pairs(
    pairs: Sequence[GradedPair], judgements: Sequence[TrainingExample], scale: GradeScale
) -> tuple[list[GradedPair], ScoredPairs]:
    """Return the pairs that the teacher's judgements cover, with its scores of them: its own row."""
    found = {
        (each.query, each.item_text): each.distribution
        for each in judgements
        if each.distribution is not None
    }
    covered = [pair for pair in pairs if (pair.query, pair.item_text) in found]
    distributions = np.array([found[pair.query, pair.item_text] for pair in covered], dtype=np.float32)
    distributions = distributions.reshape(len(covered), len(scale.labels))
    scores = np.clip(distributions @ np.array(scale.gains, dtype=np.float32), 0, 1)
    return covered, scored(covered, Scores(scores=scores, distributions=distributions), scale)


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
