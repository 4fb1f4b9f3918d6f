"""Query statistics and shoppers' history as the embedded ClickHouse gives them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from feature_store.from_clickhouse import query_statistics, shopper_segments

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
    rows = query_statistics(client, since_ms=START_MS - 5000, now_ms=START_MS)
    assert {row.key[0]: row.values for row in rows} == {
        "mug": {"frequency": 2, "traffic_class": "torso", "teacher_coverage": pytest.approx(1 / 3)},
        "cup": {"frequency": 1, "traffic_class": "tail", "teacher_coverage": 0.0},
    }
    assert {row.event_us for row in rows} == {START_MS * 1000}


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
    rows = shopper_segments(client, experiment="ranking", start_ms=START_MS)
    assert {row.key[0]: tuple(row.values.values()) for row in rows} == {
        "a": (2, 1, 1, "buyer"),
        "b": (1, 1, 0, "clicker"),
        "c": (1, 0, 0, "browser"),
    }
