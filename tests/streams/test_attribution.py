"""Attribution: clicks and conversions find their impressions whatever the order, and rows only get better."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.attribution import Emitted, Page, Windows, observe, observe_query
from streams.records import Interaction, Query, TrafficClass
from streams.rows import NIL_UUID
from streams.ubi import Dialect, parse_event, parse_query
from tests.streams.samples import NOW_MS, encode, event_record, query_record

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
WINDOWS = Windows(click_ms=30 * MINUTE_MS, conversion_ms=24 * HOUR_MS, skew_ms=5_000, engagement_s=3600)


def shown(item: str = "i1", *, at_ms: int = 0, ordinal: int = 0) -> Interaction:
    return happened("impression", item, at_ms=at_ms, ordinal=ordinal)


def happened(action: str, item: str = "i1", *, at_ms: int = 0, ordinal: int = 0) -> Interaction:
    record = event_record(action, item=item, ordinal=ordinal, timestamp=NOW_MS + at_ms)
    return parse_event(encode(record), dialect=Dialect(), now_ms=NOW_MS + 48 * HOUR_MS)


def searched() -> Query:
    return parse_query(encode(query_record()), dialect=Dialect(), now_ms=NOW_MS)


def emit(arrivals: Sequence[Query | Interaction]) -> Emitted:
    page, out = Page(NOW_MS, NOW_MS), Emitted()
    for arrival in arrivals:
        if isinstance(arrival, Query):
            observe_query(page, arrival, TrafficClass.TAIL, windows=WINDOWS, out=out)
        else:
            observe(page, arrival, windows=WINDOWS, out=out)
    return out


def final(out: Emitted, table: str) -> dict[str, dict[str, Any]]:
    """Return what ClickHouse keeps: per event the last row of the highest version."""
    kept: dict[str, dict[str, Any]] = {}
    for row in out.rows.get(table, []):
        if row["event_id"] not in kept or row["version"] >= kept[row["event_id"]]["version"]:
            kept[row["event_id"]] = row
    return kept


def only(out: Emitted, table: str) -> dict[str, Any]:
    (row,) = final(out, table).values()
    return row


def test_a_click_belongs_to_its_impression_and_carries_the_querys_arm() -> None:
    impression, click = shown(ordinal=4), happened("click", at_ms=9_000)
    row = only(emit([searched(), impression, click]), "clicks")
    assert row["impression_id"] == impression.event_id
    assert (row["attribution"], row["delay_ms"], row["arms"]) == (
        "impression",
        9_000,
        {"ranking": "treatment"},
    )
    assert (row["traffic_class"], row["normalised_query"], row["version"]) == ("tail", "red shoes", 3)


def test_windows_end_where_they_are_set_to_end() -> None:
    for action, table, window_ms in (
        ("click", "clicks", 30 * MINUTE_MS),
        ("purchase", "conversions", 24 * HOUR_MS),
        ("add_to_cart", "conversions", 24 * HOUR_MS),
    ):
        inside = only(emit([searched(), shown(), happened(action, at_ms=window_ms)]), table)
        outside = only(emit([searched(), shown(), happened(action, at_ms=window_ms + 1)]), table)
        assert (inside["attribution"], outside["attribution"]) == ("impression", "too_late")


def test_a_click_without_impression_is_kept_and_says_so() -> None:
    row = only(emit([searched(), shown("i2"), happened("click", "i1")]), "clicks")
    assert (row["attribution"], row["impression_id"]) == ("no_impression", NIL_UUID)


def test_the_latest_impression_before_the_click_counts() -> None:
    first, second, later = shown(), shown(at_ms=10_000, ordinal=2), shown(at_ms=40_000, ordinal=3)
    row = only(emit([searched(), later, second, first, happened("click", at_ms=20_000)]), "clicks")
    assert row["impression_id"] == second.event_id


def test_an_impression_that_arrives_late_mends_an_attribution_already_made() -> None:
    first, second, click = shown(), shown(at_ms=10_000, ordinal=2), happened("click", at_ms=20_000)
    out = emit([searched(), first, click, second])
    assert [row["version"] for row in out.rows["clicks"]] == [3, 7]
    assert only(out, "clicks")["impression_id"] == second.event_id


def test_clocks_may_disagree_by_the_allowed_skew() -> None:
    within = only(emit([searched(), shown(at_ms=5_000), happened("click")]), "clicks")
    beyond = only(emit([searched(), shown(at_ms=5_001), happened("click")]), "clicks")
    assert (within["attribution"], beyond["attribution"]) == ("impression", "no_impression")


def test_duplicates_add_no_engagement_and_no_version() -> None:
    click = happened("click", at_ms=1_000)
    out = emit([searched(), shown(), shown(), click, click, searched()])
    assert [(delta.impressions, delta.clicks) for delta in out.deltas] == [(1, 0), (0, 1)]
    assert {row["version"] for row in out.rows["clicks"]} == {3}
    assert len(final(out, "impressions")) == len(final(out, "queries")) == len(final(out, "exposures")) == 1


def test_engagement_waits_for_the_query() -> None:
    out = emit([shown(), happened("click", at_ms=1_000)])
    assert out.deltas == []
    out = emit([shown(), happened("click", at_ms=1_000), searched()])
    assert sorted((delta.impressions, delta.clicks) for delta in out.deltas) == [(0, 1), (1, 0)]


def test_other_actions_are_kept_as_they_are_called() -> None:
    row = only(emit([happened("page_exit")]), "interactions")
    assert row["action_name"] == "page_exit"


events = st.lists(
    st.builds(
        happened,
        st.sampled_from(["impression", "impression", "click", "purchase", "add_to_cart", "page_exit"]),
        st.sampled_from(["i1", "i2", "i3"]),
        at_ms=st.integers(0, 26 * HOUR_MS),
        ordinal=st.integers(0, 3),
    ),
    max_size=12,
)


@given(events=events, duplicated=st.integers(0, 5), seed=st.integers())
def test_the_order_of_arrival_and_duplicates_change_nothing(
    events: list[Interaction], duplicated: int, seed: int
) -> None:
    arrivals: list[Query | Interaction] = [searched(), *events]
    shuffled = arrivals + arrivals[:duplicated]
    random.Random(seed).shuffle(shuffled)
    one, other = emit(arrivals), emit(shuffled)
    for table in ("queries", "impressions", "clicks", "conversions", "interactions", "exposures"):
        expected = {key: {**row, "version": 0} for key, row in final(one, table).items()}
        assert {key: {**row, "version": 0} for key, row in final(other, table).items()} == expected
    totals = [
        sorted((d.item_id, d.window_start_s, d.impressions, d.clicks, d.purchases) for d in out.deltas)
        for out in (one, other)
    ]
    assert totals[0] == totals[1]


def test_what_was_read_for_a_search_is_one_row_however_often_it_is_delivered() -> None:
    reads = {"served_us": 9, "item_ids": ["a"], "read_us": [7], "answered_us": [8]}
    reads |= {name: [None] for name in ("as_of_us", "impressions", "clicks", "purchases")}
    reads |= {"expected_clicks": [None], "coec": [None]}
    record = query_record(query_attributes={"features": reads})
    found = parse_query(encode(record), dialect=Dialect(), now_ms=NOW_MS)
    rows = emit([found, found]).rows["feature_reads"]
    assert rows[0] == rows[1]
    assert rows[0]["event_id"] == found.event_id
    assert rows[0]["normalised_query"] == "red shoes"
    assert (rows[0]["item_ids"], rows[0]["read_us"], rows[0]["as_of_us"]) == (["a"], [7], [None])
    assert "feature_reads" not in emit([searched()]).rows


def test_deltas_say_how_often_a_query_is_searched_and_what_the_impression_scored() -> None:
    page, out = Page(NOW_MS, NOW_MS), Emitted()
    scored = parse_event(
        encode(event_record(event_attributes={"object": {"object_id": "i1"}, "score": 0.25})),
        dialect=Dialect(),
        now_ms=NOW_MS,
    )
    observe(page, scored, windows=WINDOWS, out=out)
    observe_query(page, searched(), TrafficClass.TAIL, windows=WINDOWS, out=out, searches=7)
    observe(page, happened("click", at_ms=1), windows=WINDOWS, out=out)
    assert [(delta.score, delta.searches) for delta in out.deltas] == [(0.25, 7), (None, 7)]
