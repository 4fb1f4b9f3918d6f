"""Query statistics and shoppers' history as the embedded ClickHouse gives them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from feature_store.from_clickhouse import (
    Slice,
    changed_queries,
    changed_shoppers,
    now_ms,
    query_statistics,
    shopper_history,
)

pytestmark = pytest.mark.integration

TABLES = ("queries", "impressions", "clicks", "conversions", "judgements")
START_MS = 1_780_000_000_000


@pytest.fixture(name="client")
def _client(embedded_client: Client) -> Iterator[Client]:
    def clear() -> None:
        for table in TABLES:
            embedded_client.command(f"TRUNCATE TABLE {table}")

    clear()
    yield embedded_client
    clear()


def _insert(client: Client, table: str, *rows: dict[str, Any]) -> None:
    for row in rows:
        whole: dict[str, Any] = {"version": 3, "event_time": START_MS - 1000} | row
        whole["event_time"] = datetime.fromtimestamp(whole["event_time"] / 1000, UTC)
        client.insert(table, [list(whole.values())], column_names=list(whole))


def _event(client_id: str, item_id: str = "", query: str = "mug", **fields: Any) -> dict[str, Any]:
    return {
        "event_id": str(uuid.uuid4()),
        "client_id": client_id,
        "item_id": item_id,
        "normalised_query": query,
        "traffic_class": "tail",
    } | fields


def test_statistics_of_queries(client: Client) -> None:
    repeated = _event("a", query="mug")
    del repeated["item_id"]
    searches = [repeated, repeated, _event("b") | {"traffic_class": "torso", "event_time": START_MS}]
    searches += [_event("a", query="cup"), _event("a", query="long ago", event_time=START_MS - 10_000_000)]
    _insert(client, "queries", *({k: v for k, v in one.items() if k != "item_id"} for one in searches))
    _insert(client, "impressions", _event("a", "i1"), _event("b", "i1"), _event("b", "i2"), _event("b", "i3"))
    judged = {"query": "MUG", "content_hash": "h", "teacher_id": "t", "prompt_hash": "p"}
    _insert(client, "judgements", judged | {"item_id": "i1"}, judged | {"item_id": "i9"})
    found = query_statistics(client, since_ms=START_MS - 5000, clock_ms=lambda: START_MS)
    assert {one.query: (one.frequency, one.traffic_class, one.teacher_coverage) for one in found} == {
        "mug": (2, "torso", pytest.approx(1 / 3)),
        "cup": (1, "tail", 0.0),
    }
    assert {one.known_ms for one in found} == {START_MS}


def test_only_what_rows_of_late_may_change_is_asked_for(client: Client) -> None:
    for number in range(40):
        search = _event(f"c{number}", query=f"old {number}")
        _insert(client, "impressions", search | {"item_id": "i1"})
        del search["item_id"]
        _insert(client, "queries", search)
    before_ms = _later(client)
    bounds = {"since_ms": START_MS - 5000, "changed_ms": before_ms}
    history: dict[str, Any] = {"experiment": "ranking", "until_ms": START_MS}

    def said(of: Slice) -> tuple[set[str], set[str]]:
        queries = query_statistics(client, since_ms=START_MS - 5000, clock_ms=lambda: 1, of=of)
        shoppers = shopper_history(client, clock_ms=lambda: 1, of=of, **history)
        return {one.query for one in queries}, {one.client_id for one in shoppers}

    assert changed_queries(client, **bounds) == 0
    assert changed_shoppers(client, changed_ms=before_ms, **history) == 0
    assert said(Slice(before_ms)) == (set(), set())
    judged = {"query": "Old 3", "content_hash": "h", "teacher_id": "t", "prompt_hash": "p"}
    _insert(client, "judgements", judged | {"item_id": "i1"})
    _insert(client, "impressions", _event("c5", "i2", query="old 5"))
    assert changed_queries(client, **bounds) == 2
    assert changed_shoppers(client, changed_ms=before_ms, **history) == 1
    assert said(Slice(before_ms)) == ({"old 3", "old 5"}, {"c5"})
    slices = [said(Slice(0, number, 3)) for number in range(3)]
    for which, everything in enumerate(said(Slice())):
        assert sum(len(each[which]) for each in slices) == len(everything) == 40
        assert set().union(*(each[which] for each in slices)) == everything


def _later(client: Client) -> int:
    """Return a moment, by ClickHouse's clock, after all rows that are there and before all that come."""
    moment_ms = now_ms(client) + 1
    while now_ms(client) <= moment_ms:
        time.sleep(0.001)
    return moment_ms


def test_history_of_shoppers_ends_where_the_experiment_starts(client: Client) -> None:
    _insert(
        client,
        "impressions",
        _event("a", "i1"),
        _event("a", "i2"),
        _event("b", "i1"),
        _event("c", "i1"),
        _event("a", "i3", event_time=START_MS),
        _event("d", "i1", arms={"ranking": "control"}),
    )
    shown = str(uuid.uuid4())
    done: dict[str, Any] = {"impression_id": shown, "attribution": "impression", "delay_ms": 5}
    _insert(client, "clicks", _event("a", "i1", **done), _event("a", "i1", **done), _event("b", "i1", **done))
    _insert(
        client,
        "conversions",
        _event("a", "i1", kind="purchase", **done),
        _event("b", kind="add_to_cart", **done),
    )
    found = shopper_history(client, experiment="ranking", until_ms=START_MS, clock_ms=lambda: START_MS + 1)
    assert {one.client_id: (one.impressions, one.clicks, one.conversions) for one in found} == {
        "a": (2, 1, 1),
        "b": (1, 1, 0),
        "c": (1, 0, 0),
    }
    assert {one.known_ms for one in found} == {START_MS + 1}
