from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teacher.annotation.opinions import Opinion
from teacher.annotation.rule import (
    Decision,
    Outcome,
    Reason,
    Rule,
    WhenPersonDisagrees,
    decide,
    needs_arbiter,
)
from tests.teacher.annotation.samples import LABELS, opinion

RULE = Rule(self_agreement=0.6, when_person_disagrees=WhenPersonDisagrees.REVIEW)


def _kept(reason: Reason, grade: str) -> Decision:
    return Decision(outcome=Outcome.KEPT, reason=reason, grade=grade)


def _review(reason: Reason) -> Decision:
    return Decision(outcome=Outcome.REVIEW, reason=reason)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (("E", 1.0), ("E", 0.6), _kept(Reason.AGREED, "E")),
        (("E", 1.0), ("E", 0.59), _review(Reason.UNSURE)),
        (("E", 1.0), ("S", 1.0), _review(Reason.DISAGREED)),
        (("E", 0.3), ("S", 0.3), _review(Reason.DISAGREED)),
        (("E", 1.0), (None, 0.0), _review(Reason.REFUSED)),
        ((None, 0.0), (None, 0.0), _review(Reason.REFUSED)),
    ],
)
def test_two_annotators(a: tuple[str | None, float], b: tuple[str | None, float], expected: Decision) -> None:
    opinions = [opinion("a", *a), opinion("b", *b)]
    assert decide(opinions, RULE) == expected
    assert needs_arbiter(opinions, RULE) == (expected.outcome is Outcome.REVIEW)


@pytest.mark.parametrize(
    ("a", "b", "arbiter", "expected"),
    [
        (("E", 1.0), ("S", 1.0), ("S", 1.0), _kept(Reason.ARBITRATED, "S")),
        (("E", 1.0), ("S", 1.0), ("C", 1.0), _review(Reason.DISAGREED)),
        (("E", 1.0), ("S", 1.0), ("S", 0.5), _review(Reason.DISAGREED)),
        (("E", 1.0), ("E", 0.3), ("E", 1.0), _kept(Reason.ARBITRATED, "E")),
        (("E", 1.0), ("E", 0.3), ("S", 1.0), _review(Reason.UNSURE)),
        (("E", 1.0), (None, 0.0), ("E", 1.0), _kept(Reason.ARBITRATED, "E")),
        (("E", 1.0), ("S", 1.0), (None, 0.0), _review(Reason.DISAGREED)),
    ],
)
def test_the_arbiter_makes_two_of_three(
    a: tuple[str | None, float],
    b: tuple[str | None, float],
    arbiter: tuple[str | None, float],
    expected: Decision,
) -> None:
    assert decide([opinion("a", *a), opinion("b", *b)], RULE, arbiter=opinion("c", *arbiter)) == expected


def test_the_arbiter_is_not_heard_where_the_annotators_agree() -> None:
    assert decide([opinion("a", "E"), opinion("b", "E")], RULE, arbiter=opinion("c", "S")).grade == "E"


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (WhenPersonDisagrees.DROP, Decision(outcome=Outcome.DROPPED, reason=Reason.PERSON_DISAGREES)),
        (WhenPersonDisagrees.REVIEW, _review(Reason.PERSON_DISAGREES)),
        (WhenPersonDisagrees.PERSON, _kept(Reason.PERSON_GRADE, "I")),
    ],
)
def test_a_person_who_disagrees(option: WhenPersonDisagrees, expected: Decision) -> None:
    rule = Rule(self_agreement=0.6, when_person_disagrees=option)
    opinions = [opinion("a", "E"), opinion("b", "E")]
    assert decide(opinions, rule, person_grade="I") == expected
    assert decide(opinions, rule, person_grade="E") == _kept(Reason.AGREED, "E")
    split = [opinion("a", "E"), opinion("b", "S")]
    assert decide(split, rule, arbiter=opinion("c", "S"), person_grade="I") == expected


OPINIONS = st.tuples(st.sampled_from([*LABELS, None]), st.floats(0, 1)).map(lambda said: opinion("x", *said))


@settings(deadline=None)
@given(
    st.lists(OPINIONS, min_size=2, max_size=4),
    st.none() | OPINIONS,
    st.none() | st.sampled_from(LABELS),
    st.sampled_from(WhenPersonDisagrees),
)
def test_a_kept_grade_is_one_that_most_firmly_said_or_the_persons(
    opinions: list[Opinion],
    arbiter: Opinion | None,
    person_grade: str | None,
    option: WhenPersonDisagrees,
) -> None:
    rule = Rule(self_agreement=0.6, when_person_disagrees=option)
    decisions = [
        decide(list(order), rule, arbiter=arbiter, person_grade=person_grade)
        for order in itertools.permutations(opinions)
    ]
    assert all(decision == decisions[0] for decision in decisions)
    decision = decisions[0]
    assert (decision.grade is not None) == (decision.outcome is Outcome.KEPT)
    if decision.reason in (Reason.AGREED, Reason.ARBITRATED):
        asked = [*opinions, *([arbiter] if decision.reason is Reason.ARBITRATED and arbiter else [])]
        votes = sum(each.grade == decision.grade and each.self_agreement >= 0.6 for each in asked)
        assert 2 * votes > len(asked)
        assert person_grade in (None, decision.grade)
