"""Figures of a comparison on held-out pairs; `teacher.finetune.outcomes` says what they can tell and what not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops.evaluation.metrics import Metric, UndefinedError, accuracy, auc
from ops.evaluation.pairs import ScoredPairs, scored_pairs
from teacher.finetune.outcomes import Compared, Comparison, Figures, Outcome
from teacher.scoring import relevance_score


def compared(comparison: Comparison, *, gains: Mapping[str, float]) -> Compared:
    """Return the figures of a comparison; `gains` maps the policy's labels, best first, to gains.

    Raises ValueError without pairs, or for a grade that is not on the scale.
    """
    read = (
        "grades by the probabilities of the answer's one token, as in serving"
        if comparison.mode == "score"
        else "verdicts and grade teacher-forced, under the reference chain; nothing generated"
    )
    return Compared(
        pairs=len(comparison.before),
        read=read,
        before=figures(comparison.before, gains=gains),
        after=figures(comparison.after, gains=gains),
    )


def figures(outcomes: Sequence[Outcome], *, gains: Mapping[str, float]) -> Figures:
    """Return the figures of one model. Raises ValueError as `compared` does."""
    if not outcomes:
        raise ValueError("expected at least one held-out pair, got none")
    pairs = scored_pairs(
        gains=gains,
        queries=[each.query for each in outcomes],
        scores=[relevance_score(each.grades, gains) for each in outcomes],
        grades=[each.grade for each in outcomes],
        predicted=[max(each.grades, key=each.grades.__getitem__) for each in outcomes],
    )
    verdicts = sum(each.verdicts for each in outcomes)
    return Figures(
        answer_loss=sum(each.loss for each in outcomes) / sum(each.tokens for each in outcomes),
        grade_accuracy=_value(accuracy, pairs),
        score_auc=_value(auc, pairs),
        verdict_accuracy=sum(each.verdicts_right for each in outcomes) / verdicts if verdicts else None,
    )


def _value(metric: Metric, pairs: ScoredPairs) -> float | None:
    try:
        return float(metric(pairs)(np.ones((1, pairs.queries)))[0])
    except UndefinedError:
        return None
