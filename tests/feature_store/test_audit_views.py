"""Every view: equal where online and history agree, and every kind of difference is seen, down to a vector's bit."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feast import FeatureStore, FeatureView

from feature_store import offline
from feature_store.audit import Audit
from feature_store.audit_views import StoredRead, audit_view, read_now
from feature_store.content import content_row
from feature_store.online import Found, OnlineStoreError, open_reads
from feature_store.push_log import KEPT_US, PushLog
from feature_store.rows import FeatureRow
from feature_store.statements import segment_row
from feature_store.store import apply, online_path
from feature_store.writing import FeatureWriter, now_us
from ops.settings import Settings
from streams.records import CatalogueItem, ShopperHistory
from tests.feature_store.samples import statistics

COUNT = 700
RNG = np.random.default_rng(3)


def _rows(view: str, at_us: int) -> list[FeatureRow]:
    if view == "item_vectors":
        vectors = RNG.normal(size=(COUNT, 8)).astype(np.float32)
        return [
            FeatureRow((f"i{n}", "representation-3"), {"vector": vector.tolist(), "content_hash": "h"}, at_us)
            for n, vector in enumerate(vectors)
        ]
    if view == "query_statistics":
        return [statistics(f"q{n}", at_us, n, teacher_coverage=n / COUNT) for n in range(COUNT)]
    if view == "shopper_segment":
        said = (
            ShopperHistory(
                client_id=f"s{n}", impressions=n, clicks=n % 3, conversions=0, known_ms=at_us // 1000
            )
            for n in range(COUNT)
        )
        return [segment_row(one) for one in said]
    return [
        content_row(CatalogueItem(item_id=f"i{n}", title=f"mug {n}", updated_ms=at_us // 1000))
        for n in range(COUNT)
    ]


VIEWS = ("item_content", "item_vectors", "query_statistics", "shopper_segment")


@pytest.fixture(name="fresh")
def _fresh(tmp_path: Path) -> tuple[Settings, FeatureStore]:
    settings = Settings.model_validate({"run_dir": str(tmp_path)})
    return settings, apply(settings)


def _read(
    settings: Settings, view: FeatureView, *, count: int = 5000, clock_us: Any = now_us
) -> list[StoredRead]:
    keys, _ = offline.sample_keys(view, count=count, seed=1)
    with closing(open_reads(settings)) as online:
        return read_now(online, view, keys, clock_us=clock_us)


def _audit(
    settings: Settings, store: FeatureStore, view: FeatureView, reads: Sequence[StoredRead]
) -> Audit[StoredRead]:
    return audit_view(store, view, PushLog(settings), reads)


@pytest.mark.parametrize("view_name", VIEWS)
def test_what_was_pushed_twice_is_equal(fresh: tuple[Settings, FeatureStore], view_name: str) -> None:
    settings, store = fresh
    writer = FeatureWriter(settings)
    view = writer.definitions.views[view_name]
    assert _audit(settings, store, view, _read(settings, view)).reads == 0
    for ago_us in (60_000_000, 30_000_000):
        writer.write(view_name, _rows(view_name, now_us() - ago_us))
    writer.close()
    reads = _read(settings, view)
    found = _audit(settings, store, view, reads)
    assert (found.reads, found.equal, found.different, found.not_comparable) == (COUNT, COUNT, 0, {})
    wrong = replace(reads[0], served=None)
    found = _audit(settings, store, view, [wrong, *reads[1:]])
    assert (found.equal, found.different, found.examples[0].read) == (COUNT - 1, 1, wrong)


def test_a_vector_that_differs_in_a_bit_is_seen(fresh: tuple[Settings, FeatureStore]) -> None:
    settings, store = fresh
    writer = FeatureWriter(settings)
    view = writer.definitions.item_vectors
    rows = _rows("item_vectors", now_us() - 1_000_000)
    writer.write("item_vectors", rows)
    # Another row under the same key and time, online alone: what a pusher with a fault would leave.
    vector = np.array(rows[5].values["vector"], dtype=np.float32)
    vector[3] = np.nextafter(vector[3], np.float32(np.inf))
    damaged = replace(rows[5], values={**rows[5].values, "vector": vector.tolist()})
    writer._write_online(
        view, [damaged, replace(rows[6], values={**rows[6].values, "content_hash": "other"})]
    )
    writer.close()
    found = _audit(settings, store, view, _read(settings, view))
    assert (found.equal, found.different) == (COUNT - 2, 2)
    assert {example.read.key[0] for example in found.examples} == {"i5", "i6"}


def test_a_row_that_is_missing_online_is_seen(fresh: tuple[Settings, FeatureStore]) -> None:
    settings, store = fresh
    writer = FeatureWriter(settings)
    view = writer.definitions.query_statistics
    writer.write("query_statistics", _rows("query_statistics", now_us() - 1_000_000))
    with closing(sqlite3.connect(online_path(settings))) as file, file:
        file.execute('DELETE FROM "relevance_query_statistics"')
    writer.close()
    found = _audit(settings, store, view, _read(settings, view, count=300))
    assert (found.reads, found.equal, found.different) == (300, 0, 300)


def test_what_is_past_its_time_to_live_is_read_by_neither(fresh: tuple[Settings, FeatureStore]) -> None:
    settings, store = fresh
    writer = FeatureWriter(settings)
    view = writer.definitions.query_statistics
    assert view.ttl is not None
    over_us = now_us() - int(view.ttl.total_seconds() * 1e6) - 1_000_000
    writer.write("query_statistics", _rows("query_statistics", over_us))
    writer.close()
    reads = _read(settings, view)
    assert [read.served for read in reads] == [None] * COUNT
    assert _audit(settings, store, view, reads).equal == COUNT


class _Away:
    def read(self, *_: Any) -> Found:
        raise OnlineStoreError("away")

    def close(self) -> None:
        pass


def test_an_online_store_that_does_not_answer_is_told_apart(fresh: tuple[Settings, FeatureStore]) -> None:
    settings, store = fresh
    writer = FeatureWriter(settings)
    view = writer.definitions.query_statistics
    writer.write("query_statistics", _rows("query_statistics", now_us() - 1_000_000))
    keys, total = offline.sample_keys(view, count=10, seed=1)
    assert (len(keys), total) == (10, COUNT)
    assert offline.sample_keys(view, count=10, seed=1) == (keys, total)
    assert offline.sample_keys(view, count=10, seed=2)[0] != keys
    found = _audit(settings, store, view, read_now(_Away(), view, keys, clock_us=now_us))
    assert (found.compared, found.not_comparable) == (0, {"unanswered": 10})
    writer.close()


def test_a_push_under_way_is_told_apart(
    fresh: tuple[Settings, FeatureStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, store = fresh
    writer = FeatureWriter(settings)
    view = writer.definitions.query_statistics
    writer.write("query_statistics", _rows("query_statistics", now_us() - 9_000_000))

    def fails(*_: object) -> None:
        raise OnlineStoreError("away")

    with monkeypatch.context() as patched:
        patched.setattr(FeatureWriter, "_write_online", fails)
        with pytest.raises(OnlineStoreError, match="away"):
            writer.write("query_statistics", [statistics("q1", now_us() - 1_000_000, 77)])
    found = _audit(settings, store, view, _read(settings, view))
    assert (found.equal, found.different, found.not_comparable) == (COUNT - 1, 0, {"being_written": 1})
    assert writer.settle("query_statistics") == 1
    assert _audit(settings, store, view, _read(settings, view)).equal == COUNT
    writer.close()


def test_rows_that_hold_for_ever_can_be_audited_after_their_pushes_are_forgotten(
    fresh: tuple[Settings, FeatureStore],
) -> None:
    settings, store = fresh
    long_ago_us = now_us() - KEPT_US - 3_600_000_000
    writer = FeatureWriter(settings, clock_us=lambda: long_ago_us)
    view = writer.definitions.item_vectors
    rows = _rows("item_vectors", long_ago_us)
    writer.write("item_vectors", rows[:500])
    writer.close()
    long_ago_us += 1_000_000
    writer.write("item_vectors", rows[500:])
    log = PushLog(settings)
    log.begin("item_content", long_ago_us)
    assert len(log.pushes("item_vectors")) == 2
    log.forget(now_us=now_us())
    assert [push.begun_us for push in log.pushes("item_vectors")] == [long_ago_us]
    # What was cut short is still to be settled.
    assert log.unfinished("item_content") == [long_ago_us]
    found = _audit(settings, store, view, _read(settings, view))
    assert (found.equal, found.different, found.not_comparable) == (COUNT, 0, {})
    writer.close()
