"""Writes: older rows never replace newer ones, repeats change nothing, a failure in between loses nothing."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from feast import FeatureStore
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from feature_store import offline
from feature_store.online import OnlineStoreCorruptError, OnlineStoreError
from feature_store.rebuild import rebuild_online
from feature_store.rows import FeatureRow, newest
from feature_store.store import apply, online_path
from feature_store.writing import FeatureWriter, Written
from ops.settings import Settings
from tests.feature_store.samples import NOW_MS, statistics

NOW_US = NOW_MS * 1000


def _frequency(writer: FeatureWriter, query: str) -> int | None:
    found = writer.read("query_statistics", [(query,)], ("frequency",))
    return found[query,]["frequency"].int64_val if found else None


def _files(writer: FeatureWriter) -> set[Path]:
    return set(offline.folder_of(writer.definitions.query_statistics).rglob("*.parquet"))


def test_an_older_row_stays_out_of_the_online_store(writer: FeatureWriter) -> None:
    assert writer.write("query_statistics", [statistics("older", NOW_US + 1, 2)]) == Written(1, 1, 0)
    # Less than sqlite's second apart.
    assert writer.write("query_statistics", [statistics("older", NOW_US, 1)]) == Written(1, 0, 1)
    assert _frequency(writer, "older") == 2


def test_a_batch_that_comes_again_changes_nothing(writer: FeatureWriter) -> None:
    batch = [statistics("again", NOW_US), statistics("again too", NOW_US + 1)]
    assert writer.write("query_statistics", batch) == Written(2, 2, 0)
    files = _files(writer)
    assert writer.write("query_statistics", batch) == Written(0, 0, 0)
    assert _files(writer) == files


def test_of_one_moment_the_first_row_holds(writer: FeatureWriter) -> None:
    writer.write("query_statistics", [statistics("tie", NOW_US, 1), statistics("tie", NOW_US, 2)])
    writer.write("query_statistics", [statistics("tie", NOW_US, 3)])
    assert _frequency(writer, "tie") == 1


_rows = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4)), max_size=12)


@examples(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moments=_rows, cuts=st.lists(st.integers(0, 12), max_size=4))
def test_any_order_and_batches_end_in_the_newest(
    writer: FeatureWriter, moments: list[tuple[str, int]], cuts: list[int]
) -> None:
    run = uuid.uuid4().hex
    rows = [statistics(run + query, NOW_US + moment, moment) for query, moment in moments]
    bounds = [0, *sorted(cuts), len(rows)]
    for start, until in pairwise(bounds):
        writer.write("query_statistics", rows[start:until])
    for key, row in newest(rows).items():
        assert _frequency(writer, key[0]) == row.values["frequency"]


def test_what_fails_before_it_is_online_comes_again(writer: FeatureWriter) -> None:
    seen: list[list[FeatureRow]] = []

    def report(rows: Sequence[FeatureRow]) -> None:
        seen.append(list(rows))
        if len(seen) == 1:
            raise OSError("the broker is away")

    rows = [statistics("reported", NOW_US)]
    with pytest.raises(OSError, match="away"):
        writer.write("query_statistics", rows, before_online=report)
    assert _frequency(writer, "reported") is None
    assert writer.write("query_statistics", rows, before_online=report).online == 1
    assert seen == [rows, rows]


def test_plain_feast_reads_the_same(writer: FeatureWriter, store: FeatureStore) -> None:
    writer.write("query_statistics", [statistics("ünïcode 靴", NOW_US + 7, None)])
    names = ("frequency", "traffic_class", "teacher_coverage", "as_of_us")
    found = store.get_online_features(
        features=[f"query_statistics:{name}" for name in names],
        entity_rows=[{"query": "ünïcode 靴"}, {"query": "never seen"}],
    ).to_dict()
    assert {name: found[name] for name in names} == {
        "frequency": [None, None],
        "traffic_class": ["tail", None],
        "teacher_coverage": [0.25, None],
        "as_of_us": [NOW_US + 7, None],
    }


def test_expired_rows_leave_sqlite(settings: Settings, store: FeatureStore) -> None:
    now_us = NOW_US
    writer = FeatureWriter(settings, clock_us=lambda: now_us)
    writer.write("query_statistics", [statistics("expired", NOW_US), statistics("kept", NOW_US + 10_000_000)])
    assert writer.definitions.query_statistics.ttl is not None
    now_us += int(writer.definitions.query_statistics.ttl.total_seconds() * 1e6) + 5_000_000
    assert writer.expire() >= 4
    assert (_frequency(writer, "expired"), _frequency(writer, "kept")) == (None, 1)
    writer.close()


def test_a_store_that_was_never_made_says_so(tmp_path: Path) -> None:
    writer = FeatureWriter(Settings.model_validate({"run_dir": str(tmp_path)}))
    with pytest.raises(OnlineStoreError, match="has the store been applied"):
        writer.write("query_statistics", [statistics("mug", NOW_US)])


@pytest.mark.parametrize("damage", ["header", "middle"])
def test_a_damaged_file_is_named_and_rebuilt_under_open_connections(tmp_path: Path, damage: str) -> None:
    settings = Settings.model_validate({"run_dir": str(tmp_path)})
    apply(settings)
    writer = FeatureWriter(settings)
    rows = [statistics(f"query {n}", NOW_US + n, n) for n in range(2000)]
    writer.write("query_statistics", rows)
    writer.write("query_statistics", [statistics("query 7", NOW_US + 5000, 70)])
    path = online_path(settings)
    writer.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(0 if damage == "header" else 8192)
        file.write(b"\xa5" * (path.stat().st_size - 8192 if damage == "middle" else 100))
    with pytest.raises(OnlineStoreCorruptError, match="relevance features rebuild"):
        writer.read("query_statistics", [(f"query {n}",) for n in range(2000)], ("frequency",))
    assert rebuild_online(settings)["query_statistics"] == 2000
    assert list(path.parent.glob("online.db.damaged-*"))
    assert [_frequency(writer, f"query {n}") for n in (1, 7, 1999)] == [1, 70, 1999]
    assert writer.write("query_statistics", [statistics("query 1", NOW_US + 9000, 90)]).online == 1
    assert _frequency(writer, "query 1") == 90
