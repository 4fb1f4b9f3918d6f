"""The feature store's page in a real browser over a real server and the embedded ClickHouse."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from clickhouse_connect.driver.client import Client
from starlette.applications import Starlette

from ops import heartbeat
from ops.clickhouse.inserting import Inserter
from ops.dashboard import feature_queries
from ops.features_audit import AuditedReads
from ops.settings import Settings
from ops.stack.ports import free_port
from streams.rows import TABLES
from tests.integration.browser import Page, browsing, serving, too_wide, until
from tests.integration.dashboard_pages import app_of

pytestmark = pytest.mark.integration

NOW_MS = time.time_ns() // 1_000_000
HOSTILE = "<img src=x onerror=alert(1)>\u202e"


@pytest.fixture(scope="module")
def store(embedded_client: Client) -> Iterator[Client]:
    for table in TABLES:
        embedded_client.command(f"TRUNCATE TABLE {table}")
    yield embedded_client
    for table in TABLES:
        embedded_client.command(f"TRUNCATE TABLE {table}")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings.model_validate({"run_dir": tmp_path_factory.mktemp("run"), "kafka": "127.0.0.1:1"})


@pytest.fixture(scope="module")
def app(store: Client, settings: Settings) -> Starlette:
    return app_of(store, settings)


@pytest.fixture(scope="module")
def page(app: Starlette, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with (
        serving(app, free_port()) as url,
        browsing(f"{url}features", tmp_path_factory.mktemp("profile")) as page,
    ):
        yield page


def _search(at_ms: int, *, answered: bool) -> dict[str, Any]:
    served_us = at_ms * 1000
    one = served_us - 40_000 if answered else None
    known = 1 if answered else None
    return {
        "event_id": str(uuid.uuid4()),
        "query_id": "q",
        "normalised_query": HOSTILE,
        "served_us": served_us,
        "item_ids": ["a", "b"],
        "read_us": [one, one],
        "answered_us": [one, one],
        "as_of_us": [known, None],
        "impressions": [known, None],
        "clicks": [known, None],
        "purchases": [known, None],
        "expected_clicks": [0.1 + 0.2 if answered else None, None],
        "coec": [None, None],
        "event_time": at_ms,
        "version": 3,
    }


def _audit(**changes: Any) -> AuditedReads:
    values: dict[str, Any] = {
        "audit_id": str(uuid.uuid4()),
        "view": "pair_engagement",
        "seed": 3,
        "share": 1.0,
        "first_us": NOW_MS * 1000 - 9_000_000,
        "last_us": NOW_MS * 1000,
        "searches": 40,
        "reads": 80,
        "equal": 70,
        "different": 0,
        "not_comparable": {"unanswered": 8, "being_written": 2},
        "examples": [],
    }
    return AuditedReads(**values | changes)


def _insert(client: Client, table: str, rows: list[dict[str, Any]]) -> None:
    Inserter(client).insert(table, msgspec.json.Encoder().encode_lines(rows), origin=str(uuid.uuid4()))


@pytest.fixture(scope="module")
def searches(store: Client) -> list[dict[str, Any]]:
    """Forty searches, one in four without an answer of the store."""
    rows = [_search(NOW_MS - 1000 * n, answered=n % 4 > 0) for n in range(40)]
    _insert(store, "feature_reads", rows)
    return rows


def test_before_anything_was_read_the_page_says_so(page: Page) -> None:
    page.open()
    until(lambda: page.text("#connection").startswith("As of"), "the first figures")
    assert "not audited" in page.text("#figures")
    assert "No audit yet" in page.text("#audits")
    assert "has said nothing yet" in page.text("#views")


def test_reads_audits_and_differences_are_shown(
    page: Page, store: Client, settings: Settings, searches: list[dict[str, Any]]
) -> None:
    read = {"query": HOSTILE, "item_id": "a", "read_us": 7, "served": {"clicks": 1, "coec": None}}
    different = _audit(different=1, examples=[{"read": read, "expected": None}])
    vector = {"read": {"key": [HOSTILE, "v"], "read_us": 7, "served": None}, "expected": [0.5, 0.25]}
    vectors = _audit(view="item_vectors", searches=0, equal=3, different=1, examples=[vector])
    rows = [different.row(at_ms=NOW_MS - 60_000), _audit().row(at_ms=NOW_MS)]
    _insert(store, "feature_audits", [*rows, vectors.row(at_ms=NOW_MS - 90_000)])
    counters = {
        "history_pair_engagement": 1234.0,
        "newest_ms_pair_engagement": NOW_MS - 5000.0,
        "delay_ms": 800.0,
    }
    for part in ("features", "shop"):
        heartbeat.beat(
            settings.run_dir,
            heartbeat.Heartbeat(
                part=part, pid=1, at_s=time.time(), state="ready", detail="", counters=counters
            ),
        )
    page.open()
    until(lambda: "100 %" in page.text("#figures"), "parity")
    text = page.text("#figures")
    assert "25.00 %" in text
    assert "40 ms" in text
    assert "1,234" in page.text("#views")
    audits = page.text("#audits")
    assert "98.59 %" in audits
    assert "item_vectors" in audits
    assert "75.00 %" in audits
    assert "being written 2" in audits
    differences = page.text("#differences")
    assert "<img src=x onerror=alert(1)>⟨U+202E⟩" in differences
    assert "nothing" in differences
    assert page.run("return document.querySelectorAll('#differences img').length") == 0
    for width in (1280, 390):
        page.resize(width)
        page.open()
        drawn = "return document.querySelectorAll('#chart-reads[data-drawn], #chart-lag[data-drawn]').length"
        until(lambda: page.run(drawn) == 2, "the charts")  # noqa: B023 - called before the next round
        assert too_wide(page, width) == []
    assert page.complaints() == []


def test_samples_of_logged_reads_are_drawn_by_the_seed_and_whole(
    store: Client, searches: list[dict[str, Any]]
) -> None:
    bounds = {"first_ms": 0, "last_ms": 2**42}
    assert feature_queries.count_searches(store, **bounds) == 40

    def ask(seed: int, after: int, limit: int) -> list[feature_queries.ReadSearch]:
        return feature_queries.read_searches(store, **bounds, seed=seed, after=after, limit=limit)

    whole = ask(1, 0, 500)
    assert [search.place for search in whole] == sorted(search.place for search in whole)
    parts = ask(1, 0, 15)
    parts += ask(1, parts[-1].place, 500)
    assert parts == whole
    assert [search.event_id for search in ask(2, 0, 500)] != [search.event_id for search in whole]
    assert {search.expected_clicks[0] for search in whole} == {0.1 + 0.2, None}
    assert feature_queries.reads_lately(store, now_ms=NOW_MS + 2 * 3_600_000).reads == 0
    nobody = feature_queries.reads_lately(store, now_ms=0)
    assert (nobody.searches, nobody.age_p50_ms, nobody.minutes) == (0, None, [])
    assert datetime.fromtimestamp(whole[0].served_us / 1e6, UTC).year > 2000
