"""The ad engine on a real feature store, its log through the edge into ClickHouse, and the audit of it.

While the store is stopped and started, damaged and made anew, pages degrade, are counted, and never show what the
store did not say.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from clickhouse_connect.driver.client import Client

from feature_store.engagement import Known, merge
from feature_store.online import OnlineStoreError
from feature_store.reader import FeatureReader
from feature_store.rebuild import rebuild_online
from feature_store.store import apply, online_path
from feature_store.writing import FeatureWriter
from ops.clickhouse.inserting import Inserter
from ops.dashboard import feature_queries
from ops.features_audit import audit_reads, sample
from ops.settings import Settings
from ops.shop.ad_engine import AdEngine, Page
from ops.shop.feature_reads import EngineFeatures
from ops.shop.items import Item
from ops.shop.retrieval import Retriever
from ops.shop.scorers import LexicalScorer
from ops.shop.ubi_writer import query_record
from ops.stack.ports import free_port
from streams.attribution import Emitted, Windows, observe_query
from streams.attribution import Page as OpenPage
from streams.records import TrafficClass
from streams.ubi import Dialect, parse_query
from tests.feature_store.samples import window
from tests.integration.redis_server import needs_redis, redis_server

pytestmark = pytest.mark.integration
PATIENCE_S = 120.0

ITEMS = {
    f"i{n}": Item(item_id=f"i{n}", title=f"red mug {n}", brand="", category=(), attributes={}, price=1.0)
    for n in range(20)
}
WINDOWS = Windows(click_ms=1, conversion_ms=1, skew_ms=0, engagement_s=3600)


class _Shop:
    """Searches without a pause in a thread of its own until told to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self.pages: list[tuple[int, Page]] = []
        self.counters: dict[str, int] = {}
        self.thread = threading.Thread(target=self._search)

    def _search(self) -> None:
        features = EngineFeatures(FeatureReader(self._settings))
        lexical = LexicalScorer(ITEMS.values())
        engine = AdEngine(
            items=ITEMS,
            retriever=Retriever(ITEMS.values()),
            bids=dict.fromkeys(ITEMS, 1.0),
            control=lexical,
            treatment=lexical,
            fallback=lexical,
            experiment=self._settings.experiment,
            page_size=10,
        )
        engine.read_from(features)
        while not self._stop.is_set():
            page = engine.search("Red mug", "someone")
            self.pages.append((time.time_ns() // 1_000_000, page))
            time.sleep(0.004)
        self.counters = dict(features.counters)
        features.close()

    def clicks(self) -> set[int | None]:
        """Return the clicks that the last page was served with."""
        reads = self.pages[-1][1].features
        assert reads is not None
        return set(reads.clicks)

    def until(self, holds: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not (self.pages and holds()):
            assert time.monotonic() < deadline_s, "waited in vain"
            time.sleep(0.02)

    def stop(self) -> None:
        self._stop.set()
        self.thread.join(PATIENCE_S)


@contextmanager
def _shop(settings: Settings) -> Iterator[_Shop]:
    shop = _Shop(settings)
    shop.thread.start()
    try:
        yield shop
    finally:
        shop.stop()


def _push(writer: FeatureWriter, clicks: int) -> None:
    keys = [(item, "red mug") for item in ITEMS]
    stored = writer.read("pair_engagement", keys, ("windows", "as_of_us"))
    known = {
        (key[0], key[1]): Known(row["windows"].bytes_val, row["as_of_us"].int64_val)
        for key, row in stored.items()
    }
    counted = window(
        "red mug", *((item, 100, clicks) for item in ITEMS), updated_ms=time.time_ns() // 1_000_000
    )
    writer.write("pair_engagement", merge([counted], known, windows_kept=24))


def _log(client: Client, shop: _Shop) -> None:
    """Take the pages' records through the edge, as the streams worker does, and put their rows into ClickHouse."""
    emitted = Emitted()
    for number, (at_ms, page) in enumerate(shop.pages):
        record: dict[str, Any] = query_record(
            page, query_id=f"q{number}", response_id="r", client_id="c", session_id="s", at_ms=at_ms
        )
        query = parse_query(msgspec.json.encode(record), dialect=Dialect(), now_ms=at_ms)
        observe_query(OpenPage(at_ms, at_ms), query, TrafficClass.TAIL, windows=WINDOWS, out=emitted)
    client.command("TRUNCATE TABLE feature_reads")
    lines = msgspec.json.Encoder().encode_lines(emitted.rows["feature_reads"])
    Inserter(client).insert("feature_reads", lines, origin="test")


def _audited(client: Client, settings: Settings, shop: _Shop) -> Any:
    _log(client, shop)
    bounds = {"first_ms": 0, "last_ms": 2**42}
    total = feature_queries.count_searches(client, **bounds)
    searches = sample(
        lambda after: feature_queries.read_searches(client, **bounds, seed=4, after=after, limit=500),
        searches=0,
    )
    assert len(searches) == total == len(shop.pages)
    # Every bit of what was served came back.
    served = {
        (page.features.served_us, tuple(page.features.clicks)) for _, page in shop.pages if page.features
    }
    assert served == {(search.served_us, tuple(search.clicks)) for search in searches}
    result = audit_reads(settings, searches, of=total, seed=4)
    assert result.reads == 10 * total == result.equal + result.different + sum(result.not_comparable.values())
    assert result.different == 0, result.examples[:2]
    return result


def test_sqlite_damaged_under_load_and_made_anew(tmp_path: Path, embedded_client: Client) -> None:
    settings = Settings.model_validate(
        {
            "run_dir": str(tmp_path),
            "features": {"engagement_staleness_s": 0.05, "outage_staleness_s": 0.3, "retry_after_s": 0.05},
        }
    )
    apply(settings)
    writer = FeatureWriter(settings)
    _push(writer, 1)
    with _shop(settings) as shop:
        shop.until(lambda: shop.clicks() == {1})
        _push(writer, 2)
        shop.until(lambda: shop.clicks() == {2})
        path = online_path(settings)
        damaged = path.with_name("damaged")
        damaged.write_bytes(b"\xa5" * 65_536)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        damaged.replace(path)
        shop.until(lambda: shop.clicks() == {None})
        with pytest.raises(OnlineStoreError, match="relevance features rebuild"):
            _push(writer, 3)
        rebuild_online(settings)
        shop.until(lambda: shop.clicks() == {2})
        _push(writer, 3)
        shop.until(lambda: shop.clicks() == {3})
    writer.close()
    assert {clicks for _, page in shop.pages if page.features for clicks in page.features.clicks} == {
        1,
        2,
        3,
        None,
    }
    assert all(len(page.placements) == 10 for _, page in shop.pages)
    degraded = sum(None in page.features.read_us for _, page in shop.pages if page.features)
    assert shop.counters == {"feature_reads": len(shop.pages), "feature_reads_degraded": degraded}
    assert degraded > 0
    result = _audited(embedded_client, settings, shop)
    assert result.not_comparable["unanswered"] == 10 * degraded
    assert result.equal > 0


@needs_redis
def test_redis_stopped_and_started_under_load(tmp_path: Path, embedded_client: Client) -> None:
    port = free_port()
    settings = Settings.model_validate(
        {
            "run_dir": str(tmp_path / "run"),
            "features": {
                "redis": f"127.0.0.1:{port}",
                "redis_timeout_s": 0.5,
                "engagement_staleness_s": 0.05,
                "outage_staleness_s": 0.5,
                "retry_after_s": 0.05,
            },
        }
    )
    shop = _Shop(settings)
    try:
        with redis_server(tmp_path, port=port):
            apply(settings)
            writer = FeatureWriter(settings)
            _push(writer, 1)
            shop.thread.start()
            shop.until(lambda: shop.clicks() == {1})
            _push(writer, 2)
            shop.until(lambda: shop.clicks() == {2})
            time.sleep(0.5)
        shop.until(lambda: shop.clicks() == {None})
        with pytest.raises(OnlineStoreError, match="Redis"):
            _push(writer, 3)
        with redis_server(tmp_path, port=port):
            shop.until(lambda: shop.clicks() == {2})
            _push(writer, 4)
            shop.until(lambda: shop.clicks() == {4})
            shop.stop()
        writer.close()
    finally:
        shop.stop()
    assert {clicks for _, page in shop.pages if page.features for clicks in page.features.clicks} == {
        1,
        2,
        4,
        None,
    }
    degraded = sum(None in page.features.read_us for _, page in shop.pages if page.features)
    assert shop.counters["feature_reads_degraded"] == degraded > 0
    result = _audited(embedded_client, settings, shop)
    assert result.not_comparable["unanswered"] == 10 * degraded
