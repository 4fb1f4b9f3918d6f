"""A stored judgement as the page gets it: any row gives a view."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.dashboard.asking import bucket_width_ms
from ops.dashboard.teacher_queries import PairTraffic, StoredJudgement
from ops.dashboard.teacher_view import MAX_VERDICTS, JudgementView, read_verdicts, usd, view
from ops.settings import Teacher

TRAFFIC = PairTraffic("red kettle", 3, 1, 2.5, 9)
PRICED = Teacher(usd_per_million_prompt_tokens=2.0, usd_per_million_completion_tokens=10.0)


def seen(verdicts: str, *, query: str = "red kettle", item: str = "Kettle, crimson") -> JudgementView:
    stored = StoredJudgement(
        at_ms=1,
        query=query,
        item_id="i",
        content_hash="h",
        teacher_id="t",
        prompt_hash="p",
        item_text=item,
        grade="E",
        relevance_score=0.9,
        grades={"E": 0.9, "I": 0.1},
        verdicts=verdicts,
        quotes=2,
        unlocated=0,
        chain_of_thought="grade: E",
        latency_ms=10.0,
        prompt_tokens=500,
        cached_tokens=400,
        completion_tokens=50,
    )
    return view(stored, traffic=TRAFFIC, prices=PRICED)


def line(**given: object) -> dict[str, object]:
    return {
        "subtask": "colour",
        "verdict": "match",
        "query_words": "red",
        "item_words": "crimson",
        "query_span": [0, 3],
        "item_span": [8, 15],
    } | given


def as_json(*lines: dict[str, object]) -> str:
    return msgspec.json.encode(lines).decode()


def test_evidence_is_cut_out_of_both_texts() -> None:
    found = seen(as_json(line(), line(subtask="material", item_words="steel", item_span=None)))
    assert [(piece.text, piece.inside, piece.ends) for piece in found.item_pieces] == [
        ("Kettle, ", [], []),
        ("crimson", [0], [0]),
    ]
    assert [piece.text for piece in found.query_pieces] == ["red", " kettle"]
    assert [(v.query_found, v.item_found) for v in found.verdicts] == [(True, True), (True, False)]
    assert found.usd == pytest.approx((500 * 2 + 50 * 10) / 1e6)
    assert not found.unreadable


@given(
    verdicts=st.text(max_size=60)
    | st.recursive(
        st.none() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["subtask", "verdict", "query_span", "item_span"]), inner, max_size=4
            )
        ),
    ).map(lambda value: msgspec.json.encode(value).decode())
)
def test_a_column_that_holds_anything_gives_a_view(verdicts: str) -> None:
    found = seen(verdicts)
    assert "".join(piece.text for piece in found.item_pieces) == "Kettle, crimson"
    assert not (found.unreadable and found.verdicts)
    msgspec.json.encode(found)


@pytest.mark.parametrize(
    "bad", [line(query_span=[1]), line(query_span=[1, 2, 3]), line(item_span="8"), line(subtask=None), {}]
)
def test_verdicts_of_another_form_are_said_to_be_unreadable(bad: dict[str, object]) -> None:
    assert seen(as_json(line(), bad)).unreadable


def test_spans_outside_the_text_mark_nothing_and_count_as_not_found() -> None:
    found = seen(
        as_json(line(item_span=[90, 99]), line(item_span=[9, 3]), line(query_span=[2**62, 2**63 - 1]))
    )
    assert [piece.inside for piece in found.item_pieces] == [[], [2]]
    assert [v.item_found for v in found.verdicts] == [False, False, True]
    assert [v.query_found for v in found.verdicts] == [True, True, False]


def test_no_more_verdicts_than_a_page_can_show() -> None:
    assert len(seen(as_json(*[line()] * 500)).verdicts) == MAX_VERDICTS


def test_a_column_too_long_to_be_sent_is_unreadable_and_an_empty_list_is_not() -> None:
    assert read_verdicts("") is None
    assert read_verdicts("[]") == []


def test_without_a_price_nothing_is_said_to_cost_nothing() -> None:
    assert usd(Teacher(), prompt_tokens=1e6, completion_tokens=1e6) is None
    assert usd(PRICED, prompt_tokens=1e6, completion_tokens=0) == pytest.approx(2.0)


@given(hours=st.floats(0, 24 * 30))
def test_a_bar_is_wide_enough_for_at_most_forty(hours: float) -> None:
    span_ms = int(hours * 3_600_000)
    assert span_ms <= 40 * bucket_width_ms(span_ms)
