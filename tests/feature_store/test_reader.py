"""The reader: as fresh as promised, silent rather than wrong, equal to plain Feast."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from feast import FeatureStore, FeatureView
from feast.protos.feast.types.Value_pb2 import FloatList
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from feature_store.engagement import merge
from feature_store.online import Found, OnlineStoreError
from feature_store.reader import FeatureReader, _vectors
from feature_store.rebuild import rebuild_online
from feature_store.rows import FeatureRow
from feature_store.store import apply, online_path
from feature_store.writing import FeatureWriter
from ops.settings import Settings
from tests.feature_store.samples import NOW_MS, window

NOW_US = NOW_MS * 1000
SETTINGS = Settings.model_validate(
    {
        "features": {
            "engagement_staleness_s": 5,
            "outage_staleness_s": 60,
            "retry_after_s": 1,
            "cached_rows": 4,
        }
    }
)


class _Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def wall_us(self) -> int:
        return NOW_US + int((self.now_s - 1000) * 1e6)


class _Store:
    """Stands in for the online store: answers with its own count of reads as clicks."""

    def __init__(self) -> None:
        self.away = False
        self.reads = 0
        self.asked: list[list[tuple[str, ...]]] = []

    def read(self, view: FeatureView, keys: Sequence[Sequence[str]], features: Sequence[str]) -> Found:
        self.reads += 1
        if self.away:
            raise OnlineStoreError("connection refused")
        self.asked.append([tuple(key) for key in keys])
        value = {"clicks": ValueProto(int64_val=self.reads), "as_of_us": ValueProto(int64_val=NOW_US)}
        return [
            None
            if key[0].startswith("unknown")
            else [value[name].SerializeToString() if name in value else None for name in features]
            for key in keys
        ]

    def close(self) -> None:
        pass


@pytest.fixture(name="clock")
def _clock() -> _Clock:
    return _Clock()


@pytest.fixture(name="online")
def _online() -> _Store:
    return _Store()


@pytest.fixture(name="reader")
def _reader(clock: _Clock, online: _Store) -> FeatureReader:
    return FeatureReader(SETTINGS, clock_s=clock, wall_us=clock.wall_us, reads=online)


def _clicks(reader: FeatureReader, *items: str) -> list[int | None]:
    return [row.clicks if row else None for row in reader.engagement("mug", items).features]


def test_an_answer_is_never_older_than_the_bound(reader: FeatureReader, clock: _Clock) -> None:
    assert _clicks(reader, "a") == [1]
    clock.now_s += 5
    assert _clicks(reader, "a", "b") == [1, 2]
    clock.now_s += 0.01
    assert _clicks(reader, "a", "b") == [3, 2]


def test_only_what_is_missing_is_asked_for_once(reader: FeatureReader, online: _Store) -> None:
    reader.engagement("mug", ["a", "b", "a"])
    reader.engagement("mug", ["c", "a", "unknown"])
    reader.engagement("mug", ["unknown"])
    assert online.asked == [[("a", "mug"), ("b", "mug")], [("c", "mug"), ("unknown", "mug")]]


def test_in_an_outage_the_cache_serves_within_its_bound(
    reader: FeatureReader, clock: _Clock, online: _Store
) -> None:
    assert _clicks(reader, "a", "unknown") == [1, None]
    online.away = True
    clock.now_s += 60
    answer = reader.engagement("mug", ["a", "b", "unknown"])
    assert [row and row.clicks for row in answer.features] == [1, None, None]
    assert answer.read_us == [NOW_US, None, NOW_US]
    assert reader.counters["stale"] == 2
    assert reader.counters["unanswered"] == 1
    assert reader.trouble == "connection refused"
    clock.now_s += 0.01
    assert _clicks(reader, "a") == [None]
    online.away = False
    clock.now_s += 1
    assert _clicks(reader, "a") == [online.reads]
    assert reader.trouble == ""


def test_a_store_that_is_away_is_asked_once_a_pause(
    reader: FeatureReader, clock: _Clock, online: _Store
) -> None:
    online.away = True
    for _ in range(10):
        assert _clicks(reader, "a") == [None]
    assert online.reads == reader.counters["failures"] == 1
    clock.now_s += 1
    reader.engagement("mug", ["a"])
    assert online.reads == 2


def test_the_cache_forgets_what_was_fetched_longest_ago(reader: FeatureReader, online: _Store) -> None:
    reader.engagement("mug", ["a", "b", "c", "d"])
    reader.engagement("mug", ["e"])
    assert _clicks(reader, "b", "a") == [1, 3]


def test_past_the_time_to_live_there_is_no_engagement(reader: FeatureReader, clock: _Clock) -> None:
    clock.now_s += 24 * 3600
    assert _clicks(reader, "a") == [1]
    # What was said at that moment holds while it is cached.
    clock.now_s += 5
    assert _clicks(reader, "a") == [1]
    clock.now_s += 1
    assert _clicks(reader, "a") == [None]


def test_reader_and_plain_feast_agree(settings: Settings, store: FeatureStore, writer: FeatureWriter) -> None:
    now_ms = time.time_ns() // 1_000_000
    items = [f"tasse № {n}" for n in range(60)]
    counted = window("becher", *((item, n, n % 3) for n, item in enumerate(items[:50])), updated_ms=now_ms)
    writer.write("pair_engagement", merge([counted], {}, windows_kept=24))
    reader = FeatureReader(settings)
    names = ("impressions", "clicks", "purchases", "expected_clicks", "coec", "as_of_us")
    feast = store.get_online_features(
        features=[f"pair_engagement:{name}" for name in names],
        entity_rows=[{"query": "becher", "item_id": item} for item in items],
    ).to_dict()
    ours = reader.engagement("becher", items).features
    for name in names:
        assert [row and getattr(row, name) for row in ours] == feast[name]
    assert ours[49] is not None
    assert ours[50:] == [None] * 10
    reader.close()


def test_vectors_of_versions_never_mix(
    settings: Settings, store: FeatureStore, writer: FeatureWriter
) -> None:
    rng = np.random.default_rng(5)
    made = rng.normal(size=(6, 48)).astype(np.float32)
    rows = [
        FeatureRow((f"i{n}", "v1" if n < 4 else "v2"), {"vector": made[n], "content_hash": f"h{n}"}, NOW_US)
        for n in range(6)
    ]
    writer.write("item_vectors", rows)
    reader = FeatureReader(settings)
    found = reader.vectors("v1", ["i0", "i5", "i3", "i1"])
    np.testing.assert_array_equal(found.matrix, np.stack([made[0], np.zeros(48), made[3], made[1]]))
    assert found.known.tolist() == [True, False, True, True]
    assert found.content_hashes == ["h0", "", "h3", "h1"]
    assert reader.vectors("v3", ["i0"]).matrix.shape == (1, 0)
    feast = store.get_online_features(
        features=["item_vectors:vector"],
        entity_rows=[{"item_id": item, "student_version": "v1"} for item in ("i0", "i3", "i1")],
    ).to_dict()
    np.testing.assert_array_equal(np.array(feast["vector"], dtype=np.float32), found.matrix[[0, 2, 3]])
    reader.close()


@examples(deadline=None)
@given(st.lists(st.lists(st.floats(width=32, allow_nan=False), max_size=40), max_size=8))
def test_copied_vectors_equal_parsed_ones(vectors: list[list[float]]) -> None:
    raw = [ValueProto(float_list_val=FloatList(val=values)).SerializeToString() for values in vectors]
    decoded = _vectors([[one, None, None] for one in raw])
    for row, values in zip(decoded, vectors, strict=True):
        assert row is not None
        np.testing.assert_array_equal(row.values, np.array(values, dtype=np.float32))


def test_a_damaged_file_gives_no_features_and_its_successor_is_found(tmp_path: Path) -> None:
    settings = Settings.model_validate({"run_dir": str(tmp_path), "features": {"retry_after_s": 0.001}})
    apply(settings)
    writer = FeatureWriter(settings)
    now_ms = time.time_ns() // 1_000_000
    writer.write(
        "pair_engagement", merge([window("mug", ("a", 4, 1), updated_ms=now_ms)], {}, windows_kept=24)
    )
    writer.close()
    path = online_path(settings)
    sound = path.read_bytes()
    path.write_bytes(b"\xa5" * len(sound))
    reader = FeatureReader(settings)
    assert _clicks(reader, "a") == [None]
    assert reader.counters["unanswered"] == 1
    assert "relevance features rebuild" in reader.trouble
    rebuild_online(settings)
    time.sleep(0.01)
    assert _clicks(reader, "a") == [1]
    reader.close()
