from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teacher.annotation.accounting import Accountant, Prices, VerdictAgreement, agreement
from teacher.annotation.pairs import PairToAnnotate
from teacher.annotation.rule import Rule, WhenPersonDisagrees
from teacher.annotation.settlement import Answers, Plan, settle
from tests.teacher.annotation.samples import LABELS, judgement, pair, verdict
from tests.teacher.annotation.test_settlement import said

PLAN = Plan(
    annotators=("a", "b"),
    arbiter="c",
    samples=2,
    rule=Rule(self_agreement=0.6, when_person_disagrees=WhenPersonDisagrees.DROP),
    labels=LABELS,
)
PRICES = {"a": Prices(usd_per_million_prompt_tokens=2, usd_per_million_completion_tokens=10)}
PRICES |= {"b": Prices(), "c": Prices()}


def test_kappas_by_hand() -> None:
    grades = [("E", "E"), ("E", "S"), ("S", "S"), ("I", "S")]
    found = agreement("a", "b", grades, LABELS)
    # Observed 2 of 4; by chance (2 x 1 + 1 x 3) / 16.
    assert found.kappa == pytest.approx((0.5 - 5 / 16) / (1 - 5 / 16))
    # Squared distances on ranks: observed 1 + 4; by chance (2 x 3 x 1 + 1 x 1 x 1 + 1 x 1 x 9 + 1 x 3 x 4) / 4.
    assert found.weighted_kappa == pytest.approx(1 - 5 / 7)
    assert (found.pairs, found.equal) == (4, 0.5)


def test_kappa_is_not_made_up() -> None:
    assert agreement("a", "b", [], LABELS).equal is None
    alike = agreement("a", "b", [("E", "E")] * 3, LABELS)
    assert (alike.equal, alike.kappa, alike.weighted_kappa) == (1.0, None, None)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=30))
def test_agreement_is_symmetric(grades: Sequence[tuple[str, str]]) -> None:
    one = agreement("a", "b", grades, LABELS)
    other = agreement("b", "a", [(b, a) for a, b in grades], LABELS)
    assert one.equal == other.equal
    assert one.kappa == pytest.approx(other.kappa)
    assert one.weighted_kappa == pytest.approx(other.weighted_kappa)


def test_everything_adds_up() -> None:
    accountant = Accountant(annotators=PLAN.annotators, labels=LABELS, prices=PRICES)
    clash = [judgement("E", teacher_id="m-b", verdicts=[verdict(said="mismatch"), verdict("size")])] * 2
    cases: list[tuple[PairToAnnotate, dict[str, Answers]]] = [
        (pair(0), {"a": said("m", "E", "E"), "b": clash, "c": []}),
        (pair(1, person_grade="I"), {"a": said("m", "E", "E"), "b": said("n", "E", "E"), "c": []}),
        (pair(2), {"a": said("m", "E", "E"), "b": said("n", "S", "S"), "c": said("o", "S", "S")}),
        (pair(3), {"a": said("m", "E", "-"), "b": said("n", "-", "-"), "c": said("o", "E", "E")}),
    ]
    for one, answers in cases:
        accountant.answers(answers)
        accountant.settled(settle(one, answers, PLAN))
    accountant.answers({"a": said("m", "E"), "b": [], "c": []})
    accountant.unanswered()
    account = accountant.account(duplicates=2)
    assert (account.pairs, account.unanswered, account.person_graded, account.duplicates) == (5, 1, 1, 2)
    assert account.kept == {"agreed": 1, "arbitrated": 1}
    assert account.dropped == {"person_disagrees": 1}
    assert account.review == {"refused": 1}
    assert account.arbitrated == 2
    assert account.kept_grades == {"E": 1, "S": 1, "C": 0, "I": 0}
    work = account.work["a"]
    assert (work.judgements, dict(work.refusals)) == (8, {"no_grade": 1})
    assert (work.prompt_tokens, work.completion_tokens, work.answer_s) == (3200, 160, 2.0)
    assert account.cost_usd == pytest.approx((3200 * 2 + 160 * 10) / 1e6)
    assert work.mean_self_agreement == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    between = {(each.one, each.other): each.pairs for each in account.agreement}
    assert between == {
        ("a", "b"): 3,
        ("a", "c"): 2,
        ("a", "person"): 1,
        ("b", "c"): 1,
        ("b", "person"): 1,
        ("c", "person"): 0,
    }
    assert account.verdicts == {
        "a / b": {
            "category": VerdictAgreement(both=3, equal=2),
            "size": VerdictAgreement(one_only=1),
        }
    }
