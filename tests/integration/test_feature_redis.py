"""The feature store with a real Redis: same answers as plain Feast, and what happens while Redis is away."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from redis import Redis

from feature_store.engagement import merge
from feature_store.online import OnlineStoreError
from feature_store.reader import FeatureReader
from feature_store.rebuild import rebuild_online
from feature_store.rows import FeatureRow
from feature_store.store import apply
from feature_store.writing import FeatureWriter, Written
from ops.settings import Settings
from ops.stack.ports import free_port
from tests.feature_store.samples import statistics, window
from tests.integration.redis_server import needs_redis, redis_server

pytestmark = [pytest.mark.integration, needs_redis]
PATIENCE_S = 90.0


def _settings(folder: Path, port: int, **features: float) -> Settings:
    return Settings.model_validate(
        {
            "run_dir": str(folder / "run"),
            "features": {"redis": f"127.0.0.1:{port}", "redis_timeout_s": 0.5} | features,
        }
    )


def test_redis_holds_what_sqlite_would(tmp_path: Path) -> None:
    port = free_port()
    settings = _settings(tmp_path, port)
    with redis_server(tmp_path, port=port):
        store = apply(settings)
        writer = FeatureWriter(settings)
        now_ms = time.time_ns() // 1_000_000
        items = [f"tasse № {n}" for n in range(40)]
        counted = window(
            "becher", *((item, n, n % 3) for n, item in enumerate(items[:30])), updated_ms=now_ms
        )
        rows = merge([counted], {}, windows_kept=24)
        assert writer.write("pair_engagement", rows) == Written(30, 30, 0)
        assert writer.write("pair_engagement", rows) == Written(0, 0, 0)
        assert writer.write("query_statistics", [statistics("q", now_ms * 1000 + 1, 2)]).online == 1
        assert writer.write("query_statistics", [statistics("q", now_ms * 1000, 1)]).late == 1
        vectors = np.random.default_rng(3).normal(size=(30, 16)).astype(np.float32)
        writer.write(
            "item_vectors",
            [
                FeatureRow((item, "v1"), {"vector": vectors[n], "content_hash": "h"}, now_ms * 1000)
                for n, item in enumerate(items[:30])
            ],
        )

        reader = FeatureReader(settings)
        names = ("impressions", "clicks", "purchases", "expected_clicks", "coec", "as_of_us")
        feast = store.get_online_features(
            features=[f"pair_engagement:{name}" for name in names],
            entity_rows=[{"query": "becher", "item_id": item} for item in items],
        ).to_dict()
        ours = reader.engagement("becher", items).features
        for name in names:
            assert [row and getattr(row, name) for row in ours] == feast[name]
        found = reader.vectors("v1", items)
        np.testing.assert_array_equal(found.matrix[:30], vectors)
        assert found.known.tolist() == [True] * 30 + [False] * 10
        assert not reader.vectors("v2", items).known.any()

        with Redis(port=port) as client:
            ttls_s = sorted({client.ttl(key) for key in client.scan_iter()})
            client.flushall()
        # Vectors stay, engagement and statistics leave after one and two days.
        assert ttls_s[0] == -1
        assert all(one == -1 or 86_000 < one <= 86_400 or 172_000 < one <= 172_800 for one in ttls_s)
        assert len(ttls_s) >= 3
        assert rebuild_online(settings)["pair_engagement"] == 30
        fresh = FeatureReader(settings)
        assert fresh.engagement("becher", items).features == ours
        for one in (reader, fresh):
            one.close()
        writer.close()


def test_redis_stopped_and_started_under_load(tmp_path: Path) -> None:
    port = free_port()
    settings = _settings(tmp_path, port, engagement_staleness_s=0.05, outage_staleness_s=4, retry_after_s=0.1)
    items = [f"i{n}" for n in range(50)]
    answers: list[tuple[float, list[int | None], list[int | None]]] = []
    finished = threading.Event()

    def serve() -> None:
        reader = FeatureReader(settings)
        while not finished.is_set():
            began_s = time.monotonic()
            answer = reader.engagement("mug", items)
            clicks = [row.clicks if row else None for row in answer.features]
            answers.append((began_s, clicks, answer.read_us))
            time.sleep(0.002)
        reader.close()

    now_ms = time.time_ns() // 1_000_000

    def push(writer: FeatureWriter, clicks: int) -> None:
        counted = window("mug", *((item, 100, clicks) for item in items), updated_ms=now_ms + clicks)
        writer.write("pair_engagement", merge([counted], {}, windows_kept=24))

    def answered(clicks: list[int | None]) -> None:
        until_s = time.monotonic() + PATIENCE_S
        while not answers or answers[-1][1] != clicks:
            assert time.monotonic() < until_s, answers[-1:]
            time.sleep(0.01)

    thread = threading.Thread(target=serve)
    with redis_server(tmp_path, port=port):
        apply(settings)
        writer = FeatureWriter(settings)
        push(writer, 1)
        thread.start()
        answered([1] * 50)
    stopped_s = time.monotonic()
    with pytest.raises(OnlineStoreError):
        push(writer, 2)
    # Reads are answered while the store is away.
    answered([None] * 50)
    restarted_s = time.monotonic()
    with redis_server(tmp_path, port=port):
        push(writer, 2)
        answered([2] * 50)
        finished.set()
        thread.join(timeout=PATIENCE_S)
    assert not thread.is_alive()
    writer.close()

    for began_s, clicks, read_us in answers:
        # All or nothing here: every item was cached at one moment, and nothing is made up.
        assert clicks in ([1] * 50, [2] * 50, [None] * 50)
        if clicks == [None] * 50:
            assert read_us == [None] * 50
            assert began_s > stopped_s
        if clicks == [2] * 50:
            assert began_s > stopped_s
    during = [clicks for began_s, clicks, _ in answers if stopped_s < began_s < restarted_s]
    assert during[0] == [1] * 50
    assert during[-1] == [None] * 50
    # What is back stays back.
    first = next(place for place, (_, clicks, _) in enumerate(answers) if clicks == [2] * 50)
    assert all(clicks == [2] * 50 for _, clicks, _ in answers[first:])
