"""The audit job: what was logged becomes reads, samples are as asked for, results are never rounded up."""

from __future__ import annotations

from typing import Any

import pytest

from feature_store.reader import Engagement
from ops.cli.features import audit_lines, status_lines
from ops.dashboard.feature_queries import MAX_SEARCHES, ReadSearch
from ops.features_audit import AuditedReads, audit_reads, logged_reads, sample
from ops.settings import Settings


def _search(place: int, **changes: Any) -> ReadSearch:
    values: dict[str, Any] = {
        "place": place,
        "event_id": f"e{place}",
        "normalised_query": "mug",
        "served_us": 99,
        "item_ids": ["a", "b", "c"],
        "read_us": [7, 8, None],
        "answered_us": [8, 9, None],
        "as_of_us": [3, None, None],
        "impressions": [5, None, None],
        "clicks": [1, None, None],
        "purchases": [0, None, None],
        "expected_clicks": [0.0, None, None],
        "coec": [None, None, None],
    }
    return ReadSearch(**values | changes)


def test_every_item_that_was_logged_is_a_read() -> None:
    reads = list(logged_reads(_search(1)))
    assert [read.item_id for read in reads] == ["a", "b", "c"]
    assert [read.served for read in reads] == [Engagement(5, 1, 0, 0.0, None, 3), None, None]
    assert [(read.read_us, read.answered_us) for read in reads] == [(7, 8), (8, 9), (None, None)]


@pytest.mark.parametrize("wanted", [0, 1, MAX_SEARCHES, MAX_SEARCHES + 3, 10_000])
def test_a_sample_is_as_large_as_was_asked_for_or_all_there_is(wanted: int) -> None:
    there = [_search(place) for place in range(1, 2 * MAX_SEARCHES + 8)]
    asked: list[int] = []

    def ask(after: int) -> list[ReadSearch]:
        asked.append(after)
        return [search for search in there if search.place > after][:MAX_SEARCHES]

    assert sample(ask, searches=wanted) == there[: wanted or None]
    assert len(asked) <= 3


def test_without_searches_there_is_nothing_to_audit() -> None:
    with pytest.raises(ValueError, match="got none"):
        audit_reads(Settings(), [], of=0, seed=0)


def _audited(**changes: Any) -> AuditedReads:
    values: dict[str, Any] = {
        "audit_id": "0",
        "view": "pair_engagement",
        "seed": 0,
        "share": 0.5,
        "first_us": 1,
        "last_us": 2,
        "searches": 10,
        "reads": 1_000_003,
        "equal": 1_000_000,
        "different": 0,
        "not_comparable": {"unanswered": 3},
        "examples": [],
    }
    return AuditedReads(**values | changes)


def test_parity_is_never_rounded_up_to_what_it_is_not() -> None:
    assert "parity 100.00%" in audit_lines([_audited()])[1]
    example = {
        "read": {"query": "mug", "item_id": "a", "read_us": 7, "served": None},
        "expected": {"clicks": 1},
    }
    lines = audit_lines([_audited(different=1, examples=[example])])
    assert "parity 99.99%" in lines[1]
    assert lines[-3:] == [
        "different: pair_engagement 'mug' 'a' read at 7 us",
        "  served   None",
        "  expected {'clicks': 1}",
    ]
    assert "parity unknown" in audit_lines([_audited(equal=0)])[1]


def test_each_view_is_told_with_what_was_compared() -> None:
    example = {"read": {"key": ("i1", "representation-3"), "read_us": 7, "served": None}, "expected": [0.5]}
    vectors = _audited(
        view="item_vectors", searches=0, reads=9, equal=7, different=1, examples=[example], share=1.0
    )
    nothing = _audited(view="query_vectors", searches=0, reads=0, equal=0, not_comparable={}, share=1.0)
    assert audit_lines([_audited(), vectors, nothing]) == [
        "pair_engagement: 10 searches, 1,000,003 reads (50.0% of those there are)",
        "  parity 100.00%: 1,000,000 compared, 1,000,000 equal, 0 different",
        "  not comparable: 3",
        "    unanswered 3",
        "item_vectors: 9 reads (100.0% of those there are)",
        "  parity 87.50%: 8 compared, 7 equal, 1 different",
        "  not comparable: 3",
        "    unanswered 3",
        "query_vectors: 0 reads (100.0% of those there are)",
        "different: item_vectors 'i1' 'representation-3' read at 7 us",
        "  served   None",
        "  expected [0.5]",
    ]


def test_the_row_holds_its_examples_as_json() -> None:
    row = _audited(examples=[{"read": {"query": "<b>"}}]).row(at_ms=5)
    assert row["examples"] == '[{"read":{"query":"<b>"}}]'
    assert (row["view"], row["event_time"]) == ("pair_engagement", 5)


def test_the_status_is_told_in_lines() -> None:
    reads = {"reads": 10, "known": 4, "unanswered": 1}
    counters = {
        "history_pair_engagement": 1234.0,
        "newest_ms_pair_engagement": 8000.0,
        "history_item_content": 0.0,
    }
    part = {"state": "ready", "detail": "5 rows", "counters": counters}
    newest = [
        {"view": "pair_engagement", "at_ms": 4000, "equal": 1234, "different": 0},
        {"view": "item_vectors", "at_ms": 4000, "equal": 9, "different": 1},
    ]
    audits = [*newest, {"view": "item_vectors", "at_ms": 3000, "equal": 7, "different": 7}]
    found = {"part": part, "lag": {"records": 12}, "reads": reads, "audits": audits}
    assert status_lines(found, now_ms=10_000) == [
        "features ready: 5 rows",
        "  item_content                 0 rows",
        "  pair_engagement          1,234 rows, newest 2 s old",
        "pushes behind: 12 records",
        "read in the last hour: 10 pairs, 4 with engagement, 1 without an answer (10.0%)",
        "last audit 6 s ago:",
        "  pair_engagement          1,234 equal, 0 different",
        "  item_vectors                 9 equal, 1 different",
    ]
    nothing: dict[str, Any] = {"part": None, "lag": None, "reads": reads | {"reads": 0}, "audits": []}
    lines = status_lines(nothing, now_ms=0)
    assert lines[0] == "the part features has never given a sign of life"
    assert "pushes behind: unknown" in lines
