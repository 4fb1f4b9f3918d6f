"""The pusher between a real broker and real stores: what arrives, what is refused, what a kill leaves."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from kafka import KafkaProducer

from feature_store.content import content_row
from feature_store.definitions import ITEM_CONTENT, ITEM_VECTORS
from feature_store.engagement import merge
from feature_store.judged import JudgedPair, JudgedPairs
from feature_store.pusher import Progress, run_pusher
from feature_store.reader import FeatureReader
from feature_store.store import apply
from feature_store.writing import FeatureWriter
from ops.kafka import consumer, ensure_topics, producer
from ops.scoring import item_vectors
from ops.settings import Settings
from streams.item_text import content_hash
from streams.records import CatalogueItem, EngagementWindow, Pair
from streams.topics import (
    CATALOGUE_ITEMS,
    DEAD_LETTERS,
    ENGAGEMENT_WINDOWS,
    JUDGEMENTS,
    PAIRS,
    STUDENTS,
    TOPICS,
)
from students.export.export import export_version
from students.publishing.repository import versions_of
from tests.feature_store.samples import step, window
from tests.integration.conftest import ROOT
from tests.integration.feature_pusher_process import settings_of
from tests.integration.triton_server import LOOSE, small_student
from tests.students.samples import write_small_encoder

pytestmark = pytest.mark.integration


@contextmanager
def _pusher(settings: Settings, bootstrap: str, **options: Any) -> Iterator[Progress]:
    stop = threading.Event()
    progress = Progress()

    def note(now: Progress) -> None:
        for name in Progress.__slots__:
            setattr(progress, name, getattr(now, name))

    thread = threading.Thread(
        target=run_pusher, args=(settings, bootstrap), kwargs={"stop": stop, "on_progress": note, **options}
    )
    thread.start()
    try:
        yield progress
    finally:
        stop.set()
        thread.join(timeout=60)
        assert not thread.is_alive()


def _until(condition: Callable[[], bool], *, within_s: float = 120) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.05)


def _send(sender: KafkaProducer, topic: str, key: str, value: Any) -> None:
    raw = value if value is None or isinstance(value, bytes) else msgspec.json.encode(value)
    sender.send(topic, key=key.encode(), value=raw).get(timeout=30)


def _read_all(bootstrap: str, topic: str) -> list[Any]:
    reading = consumer(Settings(), bootstrap, topic, consumer_timeout_ms=2000)
    try:
        return list(reading)
    finally:
        reading.close()


def test_windows_and_items_reach_both_stores(broker: str, tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"run_dir": str(tmp_path), "features": {"group": "test-pusher", "flush_within_s": 0.1}}
    )
    ensure_topics(settings, broker, TOPICS)
    store = apply(settings)
    sender = producer(settings, broker)
    now_ms = time.time_ns() // 1_000_000

    def judged(query: str, title: str) -> JudgedPair:
        return JudgedPair(query, "pushed-1", content_hash(title))

    def offer(title: str, later_ms: int) -> CatalogueItem:
        return CatalogueItem(item_id="pushed-1", title=title, updated_ms=now_ms + later_ms)

    mug = window("pushed mug", ("pushed-1", 8, 2), ("pushed-2", 4, 0), updated_ms=now_ms)
    with _pusher(settings, broker) as progress:
        _send(sender, ENGAGEMENT_WINDOWS, "pushed mug", mug)
        _send(sender, ENGAGEMENT_WINDOWS, "pushed mug", mug)
        _send(sender, ENGAGEMENT_WINDOWS, "pushed mug", b"{broken")
        _send(sender, CATALOGUE_ITEMS, "pushed-1", offer("Nova mug", 0))
        _until(lambda: progress.dead_letters >= 1 and progress.online_rows >= 3)
        reader = FeatureReader(settings)
        served = reader.engagement("pushed mug", ["pushed-1", "pushed-2"]).features
        assert [row.clicks if row else None for row in served] == [2, 0]
        for query in ("mug", "cup"):
            _send(sender, JUDGEMENTS, query, judged(query, "Nova mug"))
        _send(sender, JUDGEMENTS, "mug", b"{broken")
        _until(lambda: progress.dead_letters >= 2)
        assert progress.judged_again == 0
        _send(sender, CATALOGUE_ITEMS, "pushed-1", offer("Nova mug, blue", 5))
        _send(sender, CATALOGUE_ITEMS, "pushed-1", offer("Nova mug, too late", 1))
        _until(lambda: progress.judged_again == 2)
        # Judged on the old text after all: one pair more, but not those that were sent already.
        for query in ("mug", "late"):
            _send(sender, JUDGEMENTS, query, judged(query, "Nova mug"))
        _until(lambda: progress.judged_again == 3)
        _send(sender, CATALOGUE_ITEMS, "pushed-9", None)
        # Two texts, one that came late, and the removal.
        _until(lambda: progress.history[ITEM_CONTENT] >= 4)
    assert progress.trouble == ""
    reader.close()
    sender.close()

    again = [msgspec.json.decode(record.value, type=Pair) for record in _read_all(broker, PAIRS)]
    assert sorted((pair.query, pair.item_text) for pair in again if pair.item_id == "pushed-1") == [
        ("cup", "Nova mug, blue"),
        ("late", "Nova mug, blue"),
        ("mug", "Nova mug, blue"),
    ]
    assert {str(pair.reasons) for pair in again if pair.item_id == "pushed-1"} == {"{'content_changed': 1.0}"}
    letters = [record for record in _read_all(broker, DEAD_LETTERS) if record.value == b"{broken"]
    assert sorted(dict(letter.headers)["reason"] for letter in letters) == [
        b"not_a_judgement",
        b"not_an_engagement_window",
    ]
    found = store.get_online_features(
        features=["item_content:text", "item_content:listed"],
        entity_rows=[{"item_id": "pushed-1"}, {"item_id": "pushed-9"}],
    ).to_dict()
    assert found["text"] == ["Nova mug, blue", ""]
    assert found["listed"] == [True, False]

    # Everything was committed: a second pusher has nothing to do.
    with _pusher(settings, broker) as progress:
        time.sleep(2)
    assert (progress.records, progress.trouble) == (0, "")
    assert progress.history["pair_engagement"] == 2

    # Without the file of judged pairs it is filled anew from the topic, here at the price of asking once more.
    JudgedPairs(settings).path.unlink()
    with _pusher(settings, broker) as progress:
        _until(lambda: progress.judged_again == 3)


def test_vectors_of_a_version_are_there_once_it_is_published(empty_broker: str, tmp_path: Path) -> None:
    # Its own broker: who reads the steps of others' students would find these.
    settings = Settings.model_validate(
        {"run_dir": str(tmp_path), "features": {"group": "test-vectors", "flush_within_s": 0.1}}
    )
    ensure_topics(settings, empty_broker, TOPICS)
    apply(settings)
    student = small_student(write_small_encoder(tmp_path / "encoder"), "representation", seed=1)
    items = [(f"i{number}", f"blue mug {number}") for number in range(40)]
    pairs = [("blue mug", text) for _, text in items]
    folder = export_version(student, versions_of(settings), pairs=pairs, now_ms=1, limits=LOOSE)
    table = item_vectors.compute(folder, items, precision="fp32", threads=1)
    item_vectors.save(table, folder)
    sender = producer(settings, empty_broker)
    now_ms = time.time_ns() // 1_000_000
    with _pusher(settings, empty_broker) as progress:
        _send(sender, STUDENTS, "representation", b"{broken")
        _send(sender, STUDENTS, "interaction", step("interaction", version=2, at_ms=now_ms))
        _send(sender, STUDENTS, "representation", step("representation", version=1, at_ms=now_ms))
        _until(lambda: progress.history[ITEM_VECTORS] >= len(items) and progress.dead_letters >= 1)
        # The step that follows names the version again, which changes nothing.
        after = step("representation", version=1, step="pinned", champion=1, step_id=2, at_ms=now_ms)
        seen = progress.records
        _send(sender, STUDENTS, "representation", after)
        _until(lambda: progress.records > seen)
    assert (progress.history[ITEM_VECTORS], progress.trouble) == (len(items), "")
    sender.close()
    reader = FeatureReader(settings)
    found = reader.vectors("representation-1", ["i7", "nowhere"])
    reader.close()
    assert found.known.tolist() == [True, False]
    np.testing.assert_array_equal(found.matrix[0], table.matrix[7])


def test_a_judgement_on_a_text_that_is_no_more_is_asked_for_once(broker: str, tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"run_dir": str(tmp_path), "features": {"group": "test-crash", "flush_within_s": 0.1}}
    )
    ensure_topics(settings, broker, TOPICS)
    apply(settings)
    sender = producer(settings, broker)
    now_ms = time.time_ns() // 1_000_000
    _send(sender, JUDGEMENTS, "mug", JudgedPair("mug", "crashed-1", "older text"))
    item = CatalogueItem(item_id="crashed-1", title="Nova mug", updated_ms=now_ms)
    _send(sender, CATALOGUE_ITEMS, "crashed-1", item)
    writer = FeatureWriter(settings)
    # The content is there already, so nothing changes, but the judgement is about another text.
    writer.write("item_content", [content_row(item)])
    writer.close()
    with _pusher(settings, broker) as progress:
        _until(lambda: progress.judged_again == 1)
    with _pusher(settings, broker):
        time.sleep(1)
    sent = [msgspec.json.decode(record.value, type=Pair) for record in _read_all(broker, PAIRS)]
    assert [pair.item_text for pair in sent if pair.item_id == "crashed-1"] == ["Nova mug"]
    sender.close()


def test_a_pusher_that_is_killed_loses_and_repeats_nothing(broker: str, tmp_path: Path) -> None:
    settings = settings_of(str(tmp_path))
    ensure_topics(settings, broker, TOPICS)
    apply(settings)
    sender = producer(settings, broker)
    rng = random.Random(4)
    now_ms = time.time_ns() // 1_000_000
    counts: dict[tuple[int, int, str], int] = {}
    log: list[EngagementWindow] = []

    def send(number: int) -> None:
        for _ in range(number):
            query, start_s = rng.randrange(40), 3600 * rng.randrange(1, 5)
            items = []
            for item in rng.sample([f"killed-{n}" for n in range(30)], 10):
                counts[query, start_s, item] = counts.get((query, start_s, item), 0) + rng.randrange(1, 5)
                items.append((item, counts[query, start_s, item], 1))
            log.append(window(f"killed {query}", *items, start_s=start_s, updated_ms=now_ms + len(log)))
            key, value = log[-1].query.encode(), msgspec.json.encode(log[-1])
            sender.send(ENGAGEMENT_WINDOWS, key=key, value=value)
        sender.flush(timeout=30)

    def offline_files() -> int:
        return len(list((tmp_path / "features/offline/pair_engagement").rglob("*.parquet")))

    for _ in range(2):
        send(150)
        before = offline_files()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.feature_pusher_process", broker, str(tmp_path)],
            cwd=ROOT,
        )
        _until(lambda before=before: offline_files() >= before + 2)  # type: ignore[misc]
        process.kill()
        process.wait()
    send(20)
    with _pusher(settings, broker) as progress:
        expected = {row.key: row.values for row in merge(log, {}, windows_kept=24)}
        writer = FeatureWriter(settings)

        def done() -> bool:
            found = writer.read("pair_engagement", list(expected), ("impressions", "windows"))
            return {key: row["windows"].bytes_val for key, row in found.items()} == {
                key: values["windows"] for key, values in expected.items()
            }

        _until(done)
    assert progress.trouble == ""
    writer.close()
    sender.close()
