"""Rows for the store: every judgement gives one that can be sent and read back, whatever strangers wrote."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.evaluation.bootstrap import Estimate
from ops.evaluation.drift import Drift
from streams.judgement_identity import identity_of
from streams.records import Judgement, SubtaskVerdict
from streams.rows import TABLES, from_message, to_blocks
from teacher.rows import MAX_COUNT, MAX_DETAIL_CHARS, judgement_row, refusal_row, report_rows
from teacher.watching import TeacherReport

any_text = st.text(st.characters(), max_size=30)
spans = st.none() | st.tuples(st.integers(0, 40), st.integers(0, 40))
verdicts = st.builds(
    SubtaskVerdict,
    subtask=any_text,
    verdict=st.sampled_from(["match", "mismatch", "unstated"]),
    query_words=any_text,
    item_words=any_text,
    query_span=spans,
    item_span=spans,
)
judgements = st.builds(
    Judgement,
    query=any_text,
    item_id=any_text,
    item_text=any_text,
    content_hash=st.just("0123456789abcdef"),
    teacher_id=any_text,
    prompt_hash=st.just("a1b2c3d4e5f6"),
    grades=st.just({"E": 0.75, "I": 0.25}),
    grade=st.just("E"),
    relevance_score=st.floats(0, 1),
    verdicts=st.lists(verdicts, max_size=5),
    unlocated=st.integers(0, 10),
    chain_of_thought=any_text,
    latency_ms=st.floats(0, 1e6),
    prompt_tokens=st.integers(0, 10_000),
    cached_tokens=st.integers(0, 10_000),
    completion_tokens=st.integers(0, 10_000),
    judged_ms=st.just(1_760_000_000_123),
)


def lines(table: str, rows: list[dict[str, Any]]) -> list[Any]:
    """Send rows as row blocks and return what arrives."""
    arrived = []
    for block in to_blocks(table, rows):
        received = from_message(block.headers(), block.lines)
        arrived += msgspec.json.Decoder().decode_lines(received.lines)
    return arrived


@given(judgement=judgements)
def test_any_judgement_arrives_with_its_verdicts(judgement: Judgement) -> None:
    row = judgement_row(judgement)
    assert lines("judgements", [row]) == [row]
    read = msgspec.json.decode(row["verdicts"], type=list[SubtaskVerdict])
    assert [(each.verdict, each.query_span, each.item_span) for each in read] == [
        (each.verdict, each.query_span, each.item_span) for each in judgement.verdicts
    ]
    # A span counts the same characters in the stored text.
    assert len(row["item_text"]) == len(judgement.item_text)
    assert row["quotes"] == sum(bool(v.query_words) + bool(v.item_words) for v in judgement.verdicts)
    assert set(row["mismatches"]) == {v["subtask"] for v in _mismatches(row)}
    assert row["event_time"] == 1_760_000_000_123


def _mismatches(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [found for found in msgspec.json.decode(row["verdicts"]) if found["verdict"] == "mismatch"]


def test_text_that_utf_8_cannot_hold_is_replaced_not_refused(made: Judgement) -> None:
    broken = msgspec.structs.replace(made, chain_of_thought="\ud800 | size | 1 l | match", query="red \udfff")
    row = judgement_row(broken)
    assert row["chain_of_thought"] == "? | size | 1 l | match"
    assert row["query"] == "red ?"


def test_a_count_that_its_column_cannot_hold_is_its_greatest(made: Judgement) -> None:
    assert judgement_row(msgspec.structs.replace(made, unlocated=70_000))["unlocated"] == MAX_COUNT


@pytest.fixture
def made() -> Judgement:
    return Judgement(
        query="red kettle",
        item_id="i",
        item_text="Kettle, crimson",
        content_hash="0123456789abcdef",
        teacher_id="relevance-teacher",
        prompt_hash="a1b2c3d4e5f6",
        grades={"E": 0.75, "I": 0.25},
        grade="E",
        relevance_score=0.75,
        verdicts=[],
        unlocated=0,
        chain_of_thought="grade: E",
        latency_ms=12.5,
        prompt_tokens=500,
        cached_tokens=450,
        completion_tokens=4,
        judged_ms=1,
    )


def test_a_refusal_keeps_its_reason_and_the_start_of_its_detail() -> None:
    row = refusal_row(
        query="q",
        item_id="i",
        content_hash="h",
        teacher_id="t",
        prompt_hash="p",
        reason="no_grade",
        detail="\ud800" + "x" * 2000,
        at_ms=7,
    )
    assert lines("teacher_refusals", [row]) == [row]
    assert (row["reason"], row["event_time"]) == ("no_grade", 7)
    assert row["detail"] == "?" + "x" * (MAX_DETAIL_CHARS - 1)


def report(**figures: Estimate) -> TeacherReport:
    return TeacherReport(
        teacher_id="t",
        prompt_hash="p",
        from_ms=1,
        until_ms=2,
        judgements=10,
        refused={},
        grades={"E": 10},
        drift=Drift.UNKNOWN,
        drift_why="",
        figures=figures,
    )


def test_a_report_is_a_row_for_each_figure() -> None:
    made = report(
        people_pairs=Estimate(value=8.0),
        people_queries=Estimate(value=3.0),
        kappa=Estimate(value=0.6, lower=0.5, upper=0.7),
        auc=Estimate(value=None, why="one grade only"),
    )
    rows = report_rows(made, data_set="golden", made_ms=9)
    assert lines("teacher_reports", rows) == rows
    by_name = {row["metric"]: row for row in rows}
    assert by_name.keys() == made.figures.keys()
    assert (by_name["kappa"]["value"], by_name["kappa"]["low"], by_name["kappa"]["high"]) == (0.6, 0.5, 0.7)
    assert (by_name["auc"]["value"], by_name["auc"]["why"]) == (None, "one grade only")
    assert {(row["n_pairs"], row["n_queries"], row["event_time"]) for row in rows} == {(8, 3, 9)}


def test_the_same_report_has_the_same_id_and_another_one_has_not() -> None:
    made = report(kappa=Estimate(value=0.6))
    (first,) = report_rows(made, data_set="golden", made_ms=1)
    (again,) = report_rows(made, data_set="golden", made_ms=2)
    (elsewhere,) = report_rows(made, data_set="esci", made_ms=1)
    (other,) = report_rows(report(kappa=Estimate(value=0.7)), data_set="golden", made_ms=1)
    assert first["report_id"] == again["report_id"]
    assert len({first["report_id"], elsewhere["report_id"], other["report_id"]}) == 3
    assert (first["n_pairs"], first["n_queries"]) == (0, 0)


def test_the_tables_are_known_to_the_sink() -> None:
    assert {"judgements", "teacher_refusals", "teacher_reports"} <= set(TABLES)


def test_a_row_names_its_judgement_as_updates_do() -> None:
    judgement = msgspec.convert(
        {
            "query": "red mug", "item_id": "i", "item_text": "mug", "content_hash": "h", "teacher_id": "t",
            "prompt_hash": "p", "grades": {"E": 1.0}, "grade": "E", "relevance_score": 1.0, "verdicts": [],
            "unlocated": 0, "chain_of_thought": "", "latency_ms": 1.0, "prompt_tokens": 1, "cached_tokens": 0,
            "completion_tokens": 1, "judged_ms": 9, "traffic_class": "tail", "sampled_ms": 7,
        },
        Judgement,
    )  # fmt: skip
    row = judgement_row(judgement)
    assert (row["identity"], row["traffic_class"], row["sampled_at"]) == (identity_of(judgement), "tail", 7)
    unknown = msgspec.structs.replace(judgement, query="\ud800", sampled_ms=0)
    assert (judgement_row(unknown)["identity"], judgement_row(unknown)["sampled_at"]) == ("", None)
