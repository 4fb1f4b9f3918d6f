"""What a comparison on held-out pairs saw, before fine-tuning and after, and its figures.

It is quick because nothing is generated: the model reads the reference answer and is asked for its next tokens
(teacher forcing). In score mode the grade's probabilities are those that serving would have. In chain mode they
are read *under the reference chain*, which has done the work already: they say whether the model learned to
conclude, not how well it judges. How well it judges is measured on the served model.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One pair. `loss` is the sum over `tokens` answer tokens, in nats; `grades` the probability of each label at
    the grade's place, summing to 1; of `verdicts` verdicts `verdicts_right` were the likeliest of the three."""

    query: str
    grade: str
    loss: float
    tokens: int
    grades: dict[str, float]
    verdicts: int = 0
    verdicts_right: int = 0


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The same pairs in the same order under the base and under the fine-tuned model."""

    mode: Literal["chain", "score"]
    before: list[Outcome]
    after: list[Outcome]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """`answer_loss` is nats per answer token; the others are shares or areas in [0, 1], None where undefined.

    A pair is relevant, for `score_auc`, if it has the best grade.
    """

    answer_loss: float
    grade_accuracy: float | None
    score_auc: float | None
    verdict_accuracy: float | None


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Both models' figures on `pairs` pairs, and in words how they were read."""

    pairs: int
    read: str
    before: Figures
    after: Figures


def rows(of: Compared) -> list[tuple[str, str, str]]:
    """Return name, value before and value after of each figure."""
    return [
        (name, _shown(getattr(of.before, name)), _shown(getattr(of.after, name)))
        for name in Figures.__struct_fields__
    ]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
