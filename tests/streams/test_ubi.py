"""UBI dialects: what is typed, what is refused and why, and that nothing else can happen."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.records import Action, Interaction, Query
from streams.ubi import Dialect, RejectedRecord, parse_event, parse_query
from tests.streams.samples import NOW_MS, encode, event_record, query_record

DIALECT = Dialect()


def event(record: object, dialect: Dialect = DIALECT) -> Interaction:
    return parse_event(encode(record), dialect=dialect, now_ms=NOW_MS)


def query(record: object, dialect: Dialect = DIALECT) -> Query:
    return parse_query(encode(record), dialect=dialect, now_ms=NOW_MS)


def refusal(record: object) -> RejectedRecord:
    with pytest.raises(RejectedRecord) as caught:
        event(record)
    return caught.value


def test_a_query_of_the_ad_engine_carries_arms_version_and_latency() -> None:
    typed = query(
        query_record(
            query_attributes={
                "arms": {"ranking": "control"},
                "student_version": "v7",
                "latency_ms": 3.5,
                "fallback": True,
            }
        )
    )
    assert (typed.arms, typed.student_version, typed.latency_ms, typed.fallback) == (
        {"ranking": "control"},
        "v7",
        3.5,
        True,
    )


READS = {
    "served_us": 9,
    "item_ids": ["a", "b"],
    "read_us": [7, None],
    "answered_us": [8, None],
    "as_of_us": [3, None],
    "impressions": [5, None],
    "clicks": [1, None],
    "purchases": [0, None],
    "expected_clicks": [0.1234567890123456, None],
    "coec": [None, None],
}


def test_what_the_ad_engine_read_of_the_feature_store_is_typed_bit_for_bit() -> None:
    reads = query(query_record(query_attributes={"features": READS})).features
    assert reads is not None
    assert msgspec.to_builtins(reads) == READS
    assert query(query_record()).features is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"item_ids": "a"}, "wrong_type"),
        ({"clicks": ["1", None]}, "wrong_type"),
        ({"clicks": None}, "wrong_type"),
        ({"clicks": [1]}, "out_of_range"),
        ({"clicks": [-1, None]}, "out_of_range"),
        ({"as_of_us": [1 << 60, None]}, "out_of_range"),
        ({"coec": [1e300, None]}, "out_of_range"),
        ({"clicks": [None, None]}, "missing"),
        ({"read_us": [None, None]}, "missing"),
        ({"item_ids": ["a", "b" * 600]}, "too_long"),
        ({name: [None] * 1001 for name in READS if name not in ("served_us", "item_ids")}, "out_of_range"),
    ],
)
def test_reads_that_are_none_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RejectedRecord) as caught:
        query(query_record(query_attributes={"features": READS | changes}))
    assert caught.value.reason == reason
    assert caught.value.detail.startswith("features: ")


@pytest.mark.parametrize("missing", list(READS))
def test_reads_without_a_column_are_refused(missing: str) -> None:
    reads = {name: column for name, column in READS.items() if name != missing}
    with pytest.raises(RejectedRecord, match=missing):
        query(query_record(query_attributes={"features": reads}))


@pytest.mark.parametrize(
    ("timestamp", "expected_ms"),
    [
        ("2025-01-22T14:57:25.099Z", 1_737_557_845_099),
        ("2025-01-22T15:57:25.099+01:00", 1_737_557_845_099),
        ("2025-01-22T14:57:25", 1_737_557_845_000),
        (1_737_557_845_099, 1_737_557_845_099),
        (1_737_557_845_099.0, 1_737_557_845_099),
        ("1737557845099", 1_737_557_845_099),
        (1_737_557_845, 1_737_557_845_000),
    ],
)
def test_timestamps_of_every_dialect(timestamp: object, expected_ms: int) -> None:
    assert event(event_record(timestamp=timestamp)).timestamp_ms == expected_ms


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("click", Action.CLICK),
        ("item_click", Action.CLICK),
        ("Item-Click", Action.CLICK),
        ("itemClick", Action.CLICK),
        ("add_to_cart", Action.ADD_TO_CART),
        ("addToCart", Action.ADD_TO_CART),
        ("purchase", Action.PURCHASE),
        ("impression", Action.IMPRESSION),
        ("type_filter", Action.OTHER),
        ("page_exit", Action.OTHER),
    ],
)
def test_clients_own_words_for_actions(name: str, action: Action) -> None:
    typed = event(event_record(name))
    assert (typed.action, typed.action_name) == (action, name)


def test_a_shop_names_its_own_actions_and_first_position() -> None:
    dialect = Dialect(actions={"opened": Action.CLICK}, first_position_of={"shop": 1})
    typed = event(event_record("opened", ordinal=3), dialect)
    assert (typed.action, typed.position) == (Action.CLICK, 3)


def test_null_attributes_and_missing_ids_are_the_fields_usual_gaps() -> None:
    typed = event(event_record("search", event_attributes=None, query_id=None, client_id=None, user_id=42))
    assert (typed.item_id, typed.position, typed.query_id, typed.client_id) == ("", 0, "", "42")


def test_revenue_is_what_was_said_or_price_times_quantity() -> None:
    attributes: dict[str, Any] = event_record()["event_attributes"]
    assert event(event_record("purchase", event_attributes=attributes | {"revenue": 7.5})).revenue == 7.5
    priced = event(event_record("purchase", event_attributes=attributes | {"price": "2.5", "quantity": 3}))
    assert (priced.revenue, priced.quantity) == (7.5, 3)


def test_the_same_event_has_the_same_id_and_another_event_another() -> None:
    one, again = event(event_record("click")), event(dict(reversed(event_record("click").items())))
    others = [
        event(event_record("click", item="i2")),
        event(event_record("click", ordinal=1)),
        event(event_record("impression")),
        event(event_record("click", timestamp=NOW_MS - 1)),
        event(event_record("click", query_id="q", client_id="1c1")),
    ]
    assert one.event_id == again.event_id
    assert len({one.event_id, *(other.event_id for other in others)}) == 6


@pytest.mark.parametrize(
    ("changes", "reason", "named"),
    [
        ({"timestamp": None}, "missing", "timestamp"),
        ({"timestamp": "yesterday"}, "bad_timestamp", "timestamp"),
        ({"timestamp": True}, "wrong_type", "timestamp"),
        ({"timestamp": NOW_MS + 400_000}, "timestamp_in_future", "timestamp"),
        ({"timestamp": "9999-12-31T23:59:59Z"}, "timestamp_in_future", "timestamp"),
        ({"timestamp": 5}, "timestamp_too_old", "timestamp"),
        ({"timestamp": 1e300}, "wrong_type", "timestamp"),
        ({"action_name": ""}, "missing", "action_name"),
        ({"action_name": ["click"]}, "wrong_type", "action_name"),
        ({"query_id": {"$ne": 1}}, "wrong_type", "query_id"),
        ({"query_id": "x" * 600}, "too_long", "query_id"),
        ({"user_query": "x" * 5000}, "too_long", "user_query"),
        ({"event_attributes": "x"}, "wrong_type", "event_attributes"),
        ({"event_attributes": {"object": 3}}, "wrong_type", "object"),
        ({"event_attributes": {"position": {"ordinal": -1}}}, "out_of_range", "position"),
        ({"event_attributes": {"position": {"ordinal": 1e9}}}, "out_of_range", "position"),
        ({"event_attributes": {"position": {"ordinal": 1.5}}}, "wrong_type", "position"),
        ({"event_attributes": {"score": "high"}}, "wrong_type", "score"),
        ({"event_attributes": {"bid": 1e300}}, "out_of_range", "bid"),
        ({"event_attributes": {"revenue": -1}}, "out_of_range", "revenue"),
        ({"event_attributes": {"quantity": 0.5}}, "out_of_range", "quantity"),
    ],
)
def test_what_is_refused_says_why_and_where(changes: dict[str, Any], reason: str, named: str) -> None:
    rejected = refusal(event_record(**changes))
    assert rejected.reason == reason
    assert named in rejected.detail


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"not json", "not_json"),
        (b'{"a":', "not_json"),
        (b"\xff\xfe\x00", "not_json"),
        (b'{"action_name":"\xff"}', "not_json"),
        (b'{"timestamp":NaN}', "not_json"),
        (b"[" * 200_000, "not_json"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "not_json"),
        (b"[1]", "not_an_object"),
        (b"7", "not_an_object"),
    ],
)
def test_bytes_that_are_no_record(value: bytes | None, reason: str) -> None:
    for parse in (parse_event, parse_query):
        with pytest.raises(RejectedRecord) as caught:
            parse(value, dialect=DIALECT, now_ms=NOW_MS)
        assert caught.value.reason == reason


def test_a_query_needs_an_id_and_arms_that_are_texts() -> None:
    for changes, reason in (
        ({"query_id": None}, "missing"),
        ({"query_attributes": {"arms": {"ranking": 1}}}, "wrong_type"),
        ({"query_attributes": {"arms": {str(n): "a" for n in range(99)}}}, "too_long"),
        ({"query_attributes": {"fallback": "no"}}, "wrong_type"),
    ):
        with pytest.raises(RejectedRecord) as caught:
            query(query_record(**changes))
        assert caught.value.reason == reason


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(value=st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_a_record_or_a_refusal(value: bytes) -> None:
    for parse in (parse_event, parse_query):
        try:
            assert isinstance(parse(value, dialect=DIALECT, now_ms=NOW_MS), Query | Interaction)
        except RejectedRecord as rejected:
            assert rejected.reason
            assert rejected.detail


@given(changes=st.dictionaries(st.sampled_from(list(event_record())), json_values, max_size=3))
def test_any_change_to_a_good_event_gives_a_record_or_a_refusal(changes: dict[str, Any]) -> None:
    try:
        assert 0 <= event(event_record() | changes).position <= 65_535
    except RejectedRecord as rejected:
        assert rejected.reason
