from __future__ import annotations

import math

import pytest

from teacher import policy
from teacher.finetune.figures import compared, figures
from teacher.finetune.outcomes import Comparison, Outcome, rows

GAINS = policy.default().gains


def outcome(grade: str, *, exact: float, query: str = "mug", verdicts: int = 2, right: int = 1) -> Outcome:
    rest = (1 - exact) / 3
    return Outcome(
        query=query,
        grade=grade,
        loss=4.0,
        tokens=8,
        grades={"E": exact, "S": rest, "C": rest, "I": rest},
        verdicts=verdicts,
        verdicts_right=right,
    )


def test_figures_of_a_few_pairs_by_hand() -> None:
    found = figures(
        [outcome("E", exact=0.9), outcome("S", exact=0.1), outcome("E", exact=0.4), outcome("I", exact=0.7)],
        gains=GAINS,
    )
    assert found.answer_loss == 0.5
    # Of the four (relevant, other) pairs 0.9 wins twice, 0.4 once.
    assert found.score_auc == 0.75
    assert found.verdict_accuracy == 0.5
    # 0.9 and 0.4 are said to be E rightly; 0.1 falls to S, the first of the equal rest, rightly; 0.7 is wrong.
    assert found.grade_accuracy == 0.75


def test_without_both_kinds_there_is_no_area_and_without_a_chain_no_verdicts() -> None:
    found = figures([outcome("E", exact=0.9, verdicts=0, right=0)], gains=GAINS)
    assert (found.score_auc, found.verdict_accuracy) == (None, None)
    assert found.grade_accuracy == 1.0


def test_no_pairs_and_foreign_grades_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one held-out pair"):
        figures([], gains=GAINS)
    with pytest.raises(ValueError, match="expected grades among E, S, C, I, got 'Yes'"):
        figures([outcome("Yes", exact=0.9)], gains=GAINS)


@pytest.mark.parametrize(
    ("mode", "said"), [("chain", "under the reference chain"), ("score", "as in serving")]
)
def test_a_comparison_says_how_it_was_read(mode: str, said: str) -> None:
    comparison = Comparison(
        mode="chain" if mode == "chain" else "score",
        before=[outcome("E", exact=0.2), outcome("I", exact=0.5)],
        after=[outcome("E", exact=0.9), outcome("I", exact=0.1)],
    )
    made = compared(comparison, gains=GAINS)
    assert said in made.read
    assert (made.pairs, made.before.score_auc, made.after.score_auc) == (2, 0.0, 1.0)
    table = {name: (before, after) for name, before, after in rows(made)}
    assert table["score_auc"] == ("0.0000", "1.0000")
    assert math.isclose(float(table["answer_loss"][0]), 0.5)
