from __future__ import annotations

import pytest

from streams.records import Judgement
from teacher.annotation.review import Review
from teacher.annotation.rule import Decision, Outcome, Reason, Rule, WhenPersonDisagrees
from teacher.annotation.settlement import Plan, is_open, settle
from teacher.examples import ChainLine
from teacher.parsing import Refusal, RefusalReason
from teacher.policy import Verdict
from tests.teacher.annotation.samples import LABELS, judgement, pair, verdict

PLAN = Plan(
    annotators=("a", "b"),
    arbiter="c",
    samples=3,
    rule=Rule(self_agreement=0.6, when_person_disagrees=WhenPersonDisagrees.PERSON),
    labels=LABELS,
)
REFUSAL = Refusal(reason=RefusalReason.NO_GRADE, detail="")


def said(model: str, *grades: str) -> list[Judgement | Refusal]:
    return [
        REFUSAL if grade == "-" else judgement(grade, teacher_id=model, chain=f"{model} says {grade}")
        for grade in grades
    ]


def test_what_is_agreed_on_becomes_an_example() -> None:
    two = (verdict(), verdict("brand", query_words="acme", located=False))
    best = judgement("E", teacher_id="m-b", verdicts=(*two, verdict("size", item_words="")))
    answers = {"a": said("m-a", "E", "E", "S"), "b": [best, *said("m-b", "E", "-")], "c": []}
    settled = settle(pair(), answers, PLAN)
    assert settled.decision == Decision(outcome=Outcome.KEPT, reason=Reason.AGREED, grade="E")
    assert settled.example is not None
    assert (settled.example.grade, settled.example.source, settled.example.item_id) == ("E", "shop", "i0")
    assert settled.example.writer == "m-b+m-a"
    assert settled.example.chain == (
        ChainLine(subtask="category", query_words="kettle", item_words="kettle", verdict=Verdict.MATCH),
        ChainLine(subtask="size", query_words="kettle", item_words="", verdict=Verdict.MATCH),
    )
    assert settled.dropped_lines == 1
    assert not is_open(answers, PLAN)


def test_the_arbiter_counts_only_where_it_is_needed() -> None:
    split = {
        "a": said("m-a", "E", "E", "E"),
        "b": said("m-b", "S", "S", "S"),
        "c": said("m-c", "S", "S", "C"),
    }
    assert is_open(split, PLAN)
    settled = settle(pair(), split, PLAN)
    assert (settled.decision.reason, settled.decision.grade) == (Reason.ARBITRATED, "S")
    assert settled.example is not None
    assert settled.example.writer == "m-b+m-c"
    agreed = split | {"b": said("m-b", "E", "E", "E")}
    assert settle(pair(), agreed, PLAN).arbiter is None


def test_a_row_for_people_shows_every_view() -> None:
    answers = {
        "a": said("m-a", "E", "E", "E"),
        "b": said("m-b", "-", "-", "-"),
        "c": said("m-c", "S", "S", "I"),
    }
    settled = settle(pair(), answers, PLAN)
    assert settled.decision == Decision(outcome=Outcome.REVIEW, reason=Reason.REFUSED)
    assert settled.example is None
    row = settled.row()
    assert (row.pair, row.reason, row.grade) == (pair().key, "refused", "")
    assert [(view.annotator, view.grade, view.chain) for view in row.views] == [
        ("a", "E", "m-a says E"),
        ("b", "", ""),
        ("c", "S", "m-c says S"),
    ]
    assert row.views[2].self_agreement == pytest.approx(2 / 3)


def test_a_persons_grade_is_kept_with_a_chain_that_reaches_it_or_reviewed() -> None:
    answers = {"a": said("m-a", "E", "E", "S"), "b": said("m-b", "E", "E", "E"), "c": []}
    settled = settle(pair(person_grade="S"), answers, PLAN)
    assert (settled.decision.reason, settled.decision.grade) == (Reason.PERSON_GRADE, "S")
    assert settled.example is not None
    assert settled.example.writer == "m-a+person"
    without = settle(pair(person_grade="I"), answers, PLAN)
    assert without.decision == Decision(outcome=Outcome.REVIEW, reason=Reason.NO_CHAIN)
    assert without.example is None


def test_a_review_goes_before_all_else() -> None:
    answers = {"a": said("m-a", "E", "E", "S"), "b": said("m-b", "E", "E", "E"), "c": []}
    settled = settle(pair(person_grade="E"), answers, PLAN, review=Review(grade="S", comment=""))
    assert (settled.decision.reason, settled.decision.grade) == (Reason.REVIEWED, "S")
    without = settle(pair(), answers, PLAN, review=Review(grade="C", comment=""))
    assert without.decision == Decision(outcome=Outcome.DROPPED, reason=Reason.NO_CHAIN)
