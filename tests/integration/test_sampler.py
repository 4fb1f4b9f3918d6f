"""The sampler between a real broker's topics: what it sends, what it waits for, what a kill leaves."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from clickhouse_connect.driver.client import Client
from kafka import KafkaProducer

from ops.clickhouse.inserting import Inserter
from ops.kafka import ensure_topics, producer
from ops.settings import Settings
from streams.records import EngagementWindow, ItemEngagement, Pair
from streams.rows import from_message
from streams.sampling_memory import Drawn
from streams.sampling_worker import Progress, run_sampler, sampled_row
from streams.topics import (
    CATALOGUE_ITEMS,
    DEAD_LETTERS,
    ENGAGEMENT_WINDOWS,
    JUDGEMENTS,
    METRICS_ROWS,
    PAIRS,
    TOPICS,
)
from tests.integration.conftest import ROOT
from tests.integration.kafka_topics import commit_to_the_end, read_all, until
from tests.integration.sampler_process import settings_of
from tests.streams.sampling_samples import item, judgement

pytestmark = pytest.mark.integration


@contextmanager
def sampler(settings: Settings, bootstrap: str) -> Iterator[Progress]:
    stop = threading.Event()
    progress = Progress()

    def note(now: Progress) -> None:
        for name in Progress.__slots__:
            setattr(progress, name, getattr(now, name))

    thread = threading.Thread(
        target=run_sampler, args=(settings, bootstrap), kwargs={"stop": stop, "on_progress": note}
    )
    thread.start()
    try:
        yield progress
    finally:
        stop.set()
        thread.join(timeout=60)
        assert not thread.is_alive()


def send(sender: KafkaProducer, topic: str, key: str, value: Any) -> None:
    raw = value if value is None or isinstance(value, bytes) else msgspec.json.encode(value)
    sender.send(topic, key=key.encode(), value=raw)


def window(query: str, *items: str) -> EngagementWindow:
    now_ms = time.time_ns() // 1_000_000
    return EngagementWindow(
        query=query,
        window_start_s=now_ms // 3_600_000 * 3600,
        window_s=3600,
        updated_ms=now_ms,
        searches=1,
        items=[ItemEngagement(item_id, 2, 0, 0, 0.1, 2, 1.0) for item_id in items],
    )


def pairs(bootstrap: str, prefix: str) -> list[Pair]:
    """Return the pairs on the topic whose item ids begin so; other tests leave garbage beside them."""
    values = [record.value or b"" for record in read_all(bootstrap, PAIRS)]
    mine = [value for value in values if f'"item_id":"{prefix}'.encode() in value]
    return [msgspec.json.decode(value, type=Pair) for value in mine]


def test_pairs_are_sampled_from_what_was_shown_and_wait_for_a_teacher_that_lags(
    empty_broker: str, tmp_path: Path
) -> None:
    settings = Settings.model_validate(
        {
            "run_dir": str(tmp_path),
            "sampling": {"group": "test-sampler", "max_waiting_pairs": 3, "uniform_share": 0},
            "teacher_worker": {"group": "test-sampler-teacher"},
        }
    )
    ensure_topics(settings, empty_broker, TOPICS)
    sender = producer(settings, empty_broker)
    for topic in (ENGAGEMENT_WINDOWS, CATALOGUE_ITEMS, JUDGEMENTS, PAIRS):
        send(sender, topic, "shown-0", b"{sampler garbage")
    sender.flush(timeout=30)
    # What was on the topic before is nothing that the teacher has before it.
    commit_to_the_end(empty_broker, PAIRS, group=settings.teacher_worker.group)
    names = [f"shown-{number}" for number in range(5)]
    for name in names:
        send(sender, CATALOGUE_ITEMS, name, item(name))
    sender.flush(timeout=30)
    with sampler(settings, empty_broker) as progress:
        until(lambda: progress.records >= 9)
        for number, name in enumerate(names):
            send(sender, ENGAGEMENT_WINDOWS, f"sampled {number}", window(f"sampled {number}", name))
        sender.flush(timeout=30)
        until(lambda: progress.sent >= 3 and progress.lag is not None and progress.lag >= 3)
        time.sleep(3)
        assert progress.sent == 3
        assert progress.waits_for == "the teacher, which has enough to do"
        commit_to_the_end(empty_broker, PAIRS, group=settings.teacher_worker.group)
        until(lambda: progress.sent >= 5)
        (first, *_) = pairs(empty_broker, "shown-")
        send(sender, JUDGEMENTS, first.query, judgement(first, tokens=700, at_ms=first.sampled_ms))
        sender.flush(timeout=30)
        until(lambda: progress.judgement_tokens > 500)
        for number, name in enumerate(names):
            send(sender, ENGAGEMENT_WINDOWS, f"sampled {number}", window(f"sampled {number}", name))
        sender.flush(timeout=30)
        commit_to_the_end(empty_broker, PAIRS, group=settings.teacher_worker.group)
        time.sleep(4)
    sender.close()
    sampled = pairs(empty_broker, "shown-")
    assert sorted(pair.item_id for pair in sampled) == names
    assert sampled[0].item_text.startswith("Title of shown-")
    assert (progress.trouble, progress.sent) == ("", 5)
    letters = [
        record for record in read_all(empty_broker, DEAD_LETTERS) if record.value == b"{sampler garbage"
    ]
    assert sorted(dict(letter.headers)["reason"] for letter in letters) == [
        b"not_a_catalogue_item",
        b"not_a_judgement",
        b"not_an_engagement_window",
    ]
    blocks = [from_message(record.headers, record.value) for record in read_all(empty_broker, METRICS_ROWS)]
    rows = [
        msgspec.json.decode(line)
        for block in blocks
        if block.table == "sampled_pairs"
        for line in block.lines.splitlines()
    ]
    mine = [row for row in rows if row["item_id"] in names]
    assert sorted(row["item_id"] for row in mine) == names
    assert all(row["priority"] == row["reasons"]["priority"] > 0 for row in mine)


def test_a_sampler_that_is_killed_sends_no_pair_twice_and_no_more_than_its_budget(
    empty_broker: str, tmp_path: Path
) -> None:
    settings = settings_of(str(tmp_path))
    ensure_topics(settings, empty_broker, TOPICS)
    sender = producer(settings, empty_broker)
    names = [f"killed-sampler-{number}" for number in range(40)]
    for name in names:
        send(sender, CATALOGUE_ITEMS, name, item(name))

    def show(queries: range) -> None:
        for number in queries:
            query = f"killed sampler {number}"
            send(sender, ENGAGEMENT_WINDOWS, query, window(query, *names[:3]))
        sender.flush(timeout=30)

    # Three times 60 pairs are less than its tokens are enough for: each round has some to send, however fast it is.
    for round_ in range(3):
        show(range(20 * round_, 20 * round_ + 20))
        before = len(pairs(empty_broker, "killed-sampler-"))
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.sampler_process", empty_broker, str(tmp_path)], cwd=ROOT
        )
        try:
            until(lambda before=before: len(pairs(empty_broker, "killed-sampler-")) > before)  # type: ignore[misc]
        finally:
            process.kill()
            process.wait()
    show(range(60, 120))
    with sampler(settings, empty_broker) as progress:
        until(lambda: progress.waits_for == "tokens of its budget")
    sender.close()
    sampled = pairs(empty_broker, "killed-sampler-")
    sendings = Counter((pair.query, pair.item_id, pair.content_hash) for pair in sampled)
    # A kill between sending and noting it repeats at most that sending, as it was.
    assert len({msgspec.json.encode(pair) for pair in sampled}) == len(sendings)
    # Half of an hour's tokens at once, and what an hour's other half gives in the minutes of this test.
    assert 190 <= len(sendings) <= 260


def test_what_was_sampled_is_a_row_however_often_it_is_sent(embedded_client: Client) -> None:
    pair = Pair(
        query="red mug",
        item_id="i1",
        item_text="Mug",
        content_hash="0123456789abcdef",
        reasons={"tail": 0.5, "priority": 0.25, "uniform": 1.0},
        sampled_ms=1_700_000_000_123,
        deadline_ms=1_700_000_360_123,
        traffic_class="tail",
    )
    embedded_client.command("TRUNCATE TABLE sampled_pairs")
    lines = msgspec.json.Encoder().encode_lines([sampled_row(Drawn(pair=pair, tokens=412.5))])
    for origin in ("t:0:0-0", "t:0:1-1"):
        Inserter(embedded_client).insert("sampled_pairs", lines, origin=origin)
    rows = embedded_client.query(
        "SELECT query, traffic_class, uniform, priority, reasons['tail'], tokens,"
        " toUnixTimestamp64Milli(event_time), toUnixTimestamp64Milli(deadline) FROM sampled_pairs FINAL"
    ).result_rows
    assert list(rows) == [("red mug", "tail", True, 0.25, 0.5, 412.5, pair.sampled_ms, pair.deadline_ms)]
