"""Feature store: rows pushed per second, and reads of 50 and 500 items through plain Feast and through our reader.

    python -m ops.bench.feature_store [--rows N] [--requests N] [--batch N]

sqlite always, Redis if `redis-server` is on PATH (it is started on a free port, with nothing kept). All reads of
a store are taken in one run, the ways in turn, so that what else the machine does falls on all alike. The requests
go over queries by a power law, as a shop's do. `cold` reads the store for every item, `cached` is the reader with
its default staleness bounds, on requests that come one after the other.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles

import numpy as np
import pandas as pd
from feast import FeatureStore
from redis import Redis
from redis.exceptions import RedisError

from feature_store.definitions import AS_OF, CREATED, EVENT_TIME
from feature_store.engagement import merge
from feature_store.reader import FeatureReader
from feature_store.rows import FeatureRow
from feature_store.store import apply
from feature_store.writing import FeatureWriter
from ops.bench.machine import announce
from ops.settings import Settings
from ops.stack.ports import free_port
from streams.records import EngagementWindow, ItemEngagement

DIMENSIONS = 384
ITEMS = 2000
ITEMS_A_QUERY = 500
VERSION = "bench-1"
PAIR_FEATURES = ("impressions", "clicks", "purchases", "expected_clicks", "coec", AS_OF)


@contextmanager
def redis_server(port: int) -> Iterator[None]:
    """Run Redis without persistence on a port of the loopback until the block ends."""
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        with Redis(port=port) as client:
            while True:
                try:
                    client.ping()
                    break
                except RedisError:
                    if process.poll() is not None:
                        raise
                    time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def window_of(query: str, updated_ms: int, randomness: random.Random) -> EngagementWindow:
    """Return a window of one query with as many items as a window holds."""
    items = randomness.sample(range(ITEMS), ITEMS_A_QUERY)
    return EngagementWindow(
        query=query,
        window_start_s=updated_ms // 3_600_000 * 3600,
        window_s=3600,
        updated_ms=updated_ms,
        items=[ItemEngagement(f"item-{n}", randomness.randrange(1, 99), n % 3, 0, n % 7 / 2) for n in items],
    )


def push(store: FeatureStore, writer: FeatureWriter, rows: int, batch: int) -> list[str]:
    """Time pushes of engagement and vectors, print rows per second, and return the queries that were pushed."""
    randomness = random.Random(1)
    now_ms = time.time_ns() // 1_000_000
    queries = [f"query number {n}" for n in range(rows // ITEMS_A_QUERY)]
    pushed = [
        row for query in queries for row in merge([window_of(query, now_ms, randomness)], {}, windows_kept=24)
    ]
    began_s = time.perf_counter()
    for start in range(0, len(pushed), batch):
        writer.write("pair_engagement", pushed[start : start + batch])
    rate = len(pushed) / (time.perf_counter() - began_s)
    print(
        f"  push, our writer, both stores, batches of {batch}: {rate:,.0f} rows/s (pair_engagement, {len(pushed)})"
    )

    plain = pushed[:batch]
    frame = pd.DataFrame(
        {
            "item_id": [f"plain {row.key[0]}" for row in plain],
            "query": [row.key[1] for row in plain],
            **{name: [row.values[name] for row in plain] for name in plain[0].values},
            AS_OF: [row.event_us for row in plain],
            EVENT_TIME: pd.to_datetime([row.event_us for row in plain], unit="us", utc=True),
            CREATED: pd.Timestamp.now(tz="UTC").floor("us"),
        }
    )
    began_s = time.perf_counter()
    store.push("pair_engagement_push", frame)
    rate = len(frame) / (time.perf_counter() - began_s)
    print(
        f"  push, plain Feast, online only, one batch of {len(frame)}: {rate:,.0f} rows/s (pair_engagement)"
    )

    vectors = np.random.default_rng(1).normal(size=(ITEMS, DIMENSIONS)).astype(np.float32)
    made = [
        FeatureRow((f"item-{n}", VERSION), {"vector": vectors[n], "content_hash": "0" * 16}, now_ms * 1000)
        for n in range(ITEMS)
    ]
    began_s = time.perf_counter()
    writer.write("item_vectors", made)
    rate = len(made) / (time.perf_counter() - began_s)
    print(f"  push, our writer, both stores: {rate:,.0f} rows/s (item_vectors of {DIMENSIONS})")
    return queries


def read(settings: Settings, store: FeatureStore, queries: list[str], requests: int) -> None:
    """Time reads of engagement and vectors for each number of items and each way, and print p50 and p99."""
    cold_settings = settings.model_copy(
        update={
            "features": settings.features.model_copy(
                update={"engagement_staleness_s": 1e-9, "vector_staleness_s": 1e-9}
            )
        }
    )
    cached, cold = FeatureReader(settings), FeatureReader(cold_settings)

    def plain(query: str, items: list[str]) -> None:
        store.get_online_features(
            features=[f"pair_engagement:{name}" for name in PAIR_FEATURES],
            entity_rows=[{"query": query, "item_id": item} for item in items],
        )

    def plain_vectors(_: str, items: list[str]) -> None:
        store.get_online_features(
            features=["item_vectors:vector", "item_vectors:content_hash"],
            entity_rows=[{"item_id": item, "student_version": VERSION} for item in items],
        )

    ways: dict[str, Callable[[str, list[str]], object]] = {
        "engagement, plain Feast": plain,
        "engagement, reader cold": cold.engagement,
        "engagement, reader cached": cached.engagement,
        "vectors, plain Feast": plain_vectors,
        "vectors, reader cold": lambda _, items: cold.vectors(VERSION, items),
        "vectors, reader cached": lambda _, items: cached.vectors(VERSION, items),
    }
    for count in (50, 500):
        randomness = random.Random(2)
        took_ms: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(requests):
            query = queries[min(int(randomness.paretovariate(0.8)) - 1, len(queries) - 1)]
            # Retrieval gives a query the same candidates.
            chosen = random.Random(query).sample(range(ITEMS), count)
            items = [f"item-{n}" for n in chosen]
            for name, way in ways.items():
                began_s = time.perf_counter()
                way(query, items)
                took_ms[name].append((time.perf_counter() - began_s) * 1000)
        for name, taken in took_ms.items():
            cuts = quantiles(taken, n=100)
            print(f"  read {count:3} items, {name}: p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms")
    share = cached.counters["cached"] / cached.counters["rows"]
    print(
        f"  of the cached reader's rows {share:.1%} came from its cache; failures {cached.counters['failures']}"
    )
    for reader in (cached, cold):
        reader.close()


def main() -> int:
    """Run the benchmark on each store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--requests", type=int, default=300, help="reads of each kind")
    parser.add_argument("--batch", type=int, default=5000, help="rows of a push")
    arguments = parser.parse_args()
    announce("ops.bench.feature_store")

    def run(name: str, features: dict[str, object]) -> None:
        print(name)
        with tempfile.TemporaryDirectory() as folder:
            settings = Settings.model_validate({"run_dir": str(Path(folder)), "features": features})
            store = apply(settings)
            writer = FeatureWriter(settings)
            queries = push(store, writer, arguments.rows, arguments.batch)
            read(settings, store, queries, arguments.requests)
            writer.close()

    run("sqlite", {})
    if shutil.which("redis-server"):
        port = free_port()
        with redis_server(port):
            # The benchmark is to show slow reads, not to give them up.
            run("Redis", {"redis": f"127.0.0.1:{port}", "redis_timeout_s": 10})
    else:
        print("Redis: not run, there is no redis-server on PATH")
    return 0


if __name__ == "__main__":
    sys.exit(main())
