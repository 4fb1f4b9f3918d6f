"""The audit: equal where serving and history agree, and able to see every way in which they might not."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from feast import FeatureStore

from feature_store import audit as audit_module
from feature_store.audit import Audit, LoggedRead, audit_engagement
from feature_store.engagement import Known, merge
from feature_store.online import OnlineStoreError
from feature_store.push_log import PushLog
from feature_store.reader import FeatureReader
from feature_store.rebuild import rebuild_online
from feature_store.rows import FeatureRow
from feature_store.store import apply
from feature_store.writing import FeatureWriter, now_us
from ops.settings import Settings
from tests.feature_store.samples import window

ITEMS = [f"i{n}" for n in range(8)]


@pytest.fixture(name="fresh")
def _fresh(tmp_path: Path) -> tuple[Settings, FeatureStore]:
    settings = Settings.model_validate(
        {"run_dir": str(tmp_path), "features": {"engagement_staleness_s": 0.03}}
    )
    return settings, apply(settings)


def _reads(reader: FeatureReader, query: str, items: list[str]) -> list[LoggedRead]:
    answer = reader.engagement(query, items)
    return [
        LoggedRead("e", query, item, read_us, answered_us, served)
        for item, read_us, answered_us, served in zip(
            items, answer.read_us, answer.answered_us, answer.features, strict=True
        )
    ]


def _audit(settings: Settings, store: FeatureStore, reads: list[LoggedRead]) -> Audit[LoggedRead]:
    writer = FeatureWriter(settings)
    try:
        return audit_engagement(store, writer.definitions.pair_engagement, PushLog(settings), reads)
    finally:
        writer.close()


def _rows(clicks: int, **of: int) -> list[FeatureRow]:
    counted = window(
        "mug", *((item, 100, clicks) for item in ITEMS), updated_ms=of.get("ms", now_us() // 1000)
    )
    return merge([counted], {}, windows_kept=24)


def test_reads_beside_pushes_are_what_history_says(fresh: tuple[Settings, FeatureStore]) -> None:
    settings, store = fresh
    reads: list[LoggedRead] = []
    finished = threading.Event()

    def serve() -> None:
        reader = FeatureReader(settings)
        while not finished.is_set():
            reads.extend(_reads(reader, "mug", [*ITEMS, "nobody saw it"]))
            time.sleep(0.003)
        reader.close()

    thread = threading.Thread(target=serve)
    thread.start()
    writer = FeatureWriter(settings)
    for clicks in range(1, 13):
        writer.write("pair_engagement", _rows(clicks))
        if clicks % 4 == 0:
            # Late: known to history, never online.
            writer.write("pair_engagement", _rows(50, ms=now_us() // 1000 - 60_000))
        time.sleep(0.03)
    writer.close()
    finished.set()
    thread.join()
    found = _audit(settings, store, reads)
    assert (found.different, found.examples) == (0, [])
    assert found.reads == len(reads) == found.compared + sum(found.not_comparable.values())
    assert found.equal > len(reads) / 2
    assert set(found.not_comparable) <= {"being_written"}
    assert {read.served.clicks for read in reads if read.served} >= {2, 6, 11}


def test_every_kind_of_difference_is_seen(fresh: tuple[Settings, FeatureStore]) -> None:
    settings, store = fresh
    writer = FeatureWriter(settings)
    first = _rows(1)
    first_us = first[0].event_us
    writer.write("pair_engagement", first)
    time.sleep(0.01)
    writer.write("pair_engagement", _rows(2))
    reader = FeatureReader(settings)
    good = _reads(reader, "mug", ITEMS[:1])[0]
    assert good.served is not None
    assert good.read_us is not None
    wrong = [
        replace(good, served=replace(good.served, clicks=7)),
        replace(good, served=replace(good.served, expected_clicks=good.served.expected_clicks + 1e-12)),
        replace(good, served=replace(good.served, coec=None)),
        replace(good, served=replace(good.served, as_of_us=good.served.as_of_us - 1)),
        replace(good, served=None),
        replace(good, item_id="nobody saw it"),
        # What the push before said.
        replace(good, served=replace(good.served, clicks=1, as_of_us=first_us)),
    ]
    found = _audit(settings, store, [good, *wrong])
    assert (found.equal, found.different) == (1, len(wrong))
    assert [example.read for example in found.examples] == wrong
    assert found.examples[0].expected == good.served
    assert found.examples[5].expected is None
    reader.close()
    writer.close()


def test_what_has_no_single_answer_is_told_apart(
    fresh: tuple[Settings, FeatureStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, store = fresh
    writer = FeatureWriter(settings)
    writer.write("pair_engagement", _rows(1))
    reader = FeatureReader(settings)
    first = _reads(reader, "mug", ITEMS[:1])[0]
    assert first.served is not None
    assert first.read_us is not None
    later_ms = now_us() // 1000 + 1

    # A push whose online half fails: offline has the row, nobody could have read it.
    def fails(*_: object) -> None:
        raise OnlineStoreError("away")

    with monkeypatch.context() as patched:
        patched.setattr(FeatureWriter, "_write_online", fails)
        time.sleep(0.005)
        with pytest.raises(OnlineStoreError, match="away"):
            writer.write("pair_engagement", _rows(2, ms=later_ms))
    time.sleep(0.04)
    during = _reads(reader, "mug", ITEMS[:1])[0]
    assert during.served == first.served
    other = replace(during, served=replace(first.served, as_of_us=first.served.as_of_us - 5))
    written = replace(during, served=replace(first.served, as_of_us=later_ms * 1000))
    assert writer.settle("pair_engagement") == len(ITEMS)
    assert writer.settle("pair_engagement") == 0
    time.sleep(0.04)
    after = _reads(reader, "mug", ITEMS[:1])[0]
    assert after.served is not None
    assert after.served.clicks == 2

    rebuilt_from_us = now_us()
    rebuild_online(settings)
    rebuild = replace(after, read_us=rebuilt_from_us, answered_us=now_us(), served=None)
    unanswered = replace(after, read_us=None, answered_us=None, served=None)
    ahead = replace(first, served=replace(first.served, as_of_us=first.read_us + 1))
    old = replace(first, read_us=1)
    found = _audit(settings, store, [first, during, other, written, after, rebuild, unanswered, ahead, old])
    assert found.not_comparable == {
        "being_written": 2,
        "being_rebuilt": 1,
        "unanswered": 1,
        "clocks_differ": 1,
        "before_the_log": 1,
    }
    assert (found.equal, [example.read for example in found.examples]) == (2, [other])
    reader.close()
    writer.close()


def test_reads_are_audited_in_parts(
    fresh: tuple[Settings, FeatureStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, store = fresh
    monkeypatch.setattr(audit_module, "READS_AT_ONCE", 3)
    writer = FeatureWriter(settings)
    writer.write("pair_engagement", _rows(1))
    reader = FeatureReader(settings)
    reads = _reads(reader, "mug", ITEMS)
    found = _audit(settings, store, [*reads[:4], replace(reads[4], served=None), *reads[5:]])
    assert (found.reads, found.equal, found.different) == (8, 7, 1)
    reader.close()
    writer.close()


def test_the_time_to_live_is_judged_at_the_moment_of_reading(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {
            "run_dir": str(tmp_path),
            "streams": {"engagement_window_s": 1, "engagement_windows_kept": 1},
            "features": {"engagement_staleness_s": 60},
        }
    )
    store = apply(settings)
    writer = FeatureWriter(settings)
    rows = _rows(1)
    writer.write("pair_engagement", rows)
    edge_us = rows[0].event_us + 1_000_000
    reads = []
    for wall_us in (edge_us - 1, edge_us, edge_us + 1):
        reader = FeatureReader(settings, wall_us=lambda wall_us=wall_us: wall_us)  # type: ignore[misc]
        reads += _reads(reader, "mug", ITEMS[:1])
        reader.close()
    assert [read.served is not None for read in reads] == [True, True, False]
    assert _audit(settings, store, reads).equal == 3
    writer.close()


def test_a_row_that_follows_in_the_same_millisecond_is_another(
    fresh: tuple[Settings, FeatureStore],
) -> None:
    settings, store = fresh
    writer = FeatureWriter(settings)
    at_ms = now_us() // 1000
    first = merge([window("mug", ("i0", 4, 1), updated_ms=at_ms)], {}, windows_kept=24)
    writer.write("pair_engagement", first)
    known = {("i0", "mug"): Known(first[0].values["windows"], first[0].event_us)}
    second = merge([window("mug", ("i0", 5, 2), start_s=7200, updated_ms=at_ms)], known, windows_kept=24)
    writer.write("pair_engagement", second)
    reader = FeatureReader(settings)
    reads = _reads(reader, "mug", ["i0"])
    assert reads[0].served is not None
    assert reads[0].served.clicks == 3
    assert _audit(settings, store, reads).equal == 1
    reader.close()
    writer.close()
