"""The sink's order of things, with a consumer, a producer and a table that fail on command."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import pytest
from clickhouse_connect.driver.client import Client
from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import CommitFailedError, KafkaTimeoutError, TopicAuthorizationFailedError

from ops import batch_loop
from ops.clickhouse import sink as sink_module
from ops.clickhouse.inserting import RowsRefusedError, TryAgainError
from ops.clickhouse.sink import Progress, run_sink
from ops.settings import Metrics, Settings
from streams.topics import METRICS_ROWS


def make_record(partition: int, offset: int, lines: bytes, table: str = "clicks") -> ConsumerRecord:
    headers = [("table", table.encode()), ("rows", str(lines.count(b"\n")).encode())]
    return ConsumerRecord(METRICS_ROWS, partition, 0, offset, 0, 0, None, lines, headers, None, 0, 0, 0)


class World:
    """Everything around the sink. `log` tells what happened in order; `insert_errors` and others come once each."""

    def __init__(self) -> None:
        self.polls: deque[list[ConsumerRecord] | Exception] = deque()
        self.partitions = {0, 1}
        self.assigned: set[TopicPartition] = set()
        self.insert_errors: deque[Exception] = deque()
        self.commit_errors: deque[Exception] = deque()
        self.refuse_dead_letters = False
        self.log: list[tuple[Any, ...]] = []
        self.troubles: list[str] = []
        self.stop = threading.Event()
        self.progress = Progress()
        self.done: Callable[[], bool] = lambda: False

    # The consumer
    def partitions_for_topic(self, topic: str) -> set[int]:
        assert topic == METRICS_ROWS
        return set(self.partitions)

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned = set(partitions)

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        assert timeout_ms <= 100
        assert self.assigned == {TopicPartition(METRICS_ROWS, partition) for partition in self.partitions}
        if not self.polls:
            return {}
        polled = self.polls.popleft()
        if isinstance(polled, Exception):
            raise polled
        found: dict[TopicPartition, list[ConsumerRecord]] = {}
        for record in polled:
            found.setdefault(TopicPartition(record.topic, record.partition), []).append(record)
        return found

    def commit(self, offsets: dict[TopicPartition, Any], timeout_ms: int) -> None:
        assert timeout_ms > 0
        if self.commit_errors:
            raise self.commit_errors.popleft()
        self.log.append(("commit", {(of.partition): found.offset for of, found in offsets.items()}))

    # The inserter
    def insert(self, table: str, lines: bytes, *, origin: str) -> None:
        if self.insert_errors:
            raise self.insert_errors.popleft()
        if b"bad\n" in lines or (table == "dead_letters" and self.refuse_dead_letters):
            raise RowsRefusedError("it says bad")
        self.log.append(("insert", table, lines, origin) if table != "dead_letters" else ("dead_letters",))

    # The producer
    def send(self, topic: str, *, key: bytes | None, value: bytes, headers: list[tuple[str, bytes]]) -> World:
        self.log.append(("send", topic, value, dict(headers)["reason"]))
        return self

    def flush(self, timeout: float) -> None:
        assert timeout > 0

    def get(self, timeout: float) -> None:
        assert timeout > 0

    def close(self, **_options: Any) -> None:
        self.log.append(("close",))

    def on_progress(self, progress: Progress) -> None:
        self.progress = progress
        if progress.trouble and progress.trouble not in self.troubles:
            self.troubles.append(progress.trouble)
        if self.done():
            self.stop.set()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(sink_module, "open_consumer", lambda *_a, **_k: world)
    monkeypatch.setattr(sink_module, "open_producer", lambda *_a, **_k: world)
    monkeypatch.setattr(sink_module, "Inserter", lambda _client: world)
    monkeypatch.setattr(batch_loop, "POLL_EVERY_S", 0.001)
    monkeypatch.setattr(batch_loop, "BACKOFF_FIRST_S", 0.01)
    return world


def run(world: World, until: Callable[[], bool], *, flush_rows: int = 1000) -> list[tuple[Any, ...]]:
    """Run the sink until the condition holds and return the log without the closing."""
    world.done = until
    guard = threading.Timer(20, world.stop.set)
    guard.start()
    settings = Settings(metrics=Metrics(flush_rows=flush_rows, flush_within_s=0.02))
    try:
        run_sink(settings, "", cast(Client, None), stop=world.stop, on_progress=world.on_progress)
    finally:
        guard.cancel()
    assert until(), "the sink did not get there within 20 s"
    return [entry for entry in world.log if entry != ("close",)]


def committed(world: World) -> Callable[[], bool]:
    return lambda: any(entry[0] == "commit" for entry in world.log)


def test_blocks_of_all_partitions_make_one_insert_per_table_and_then_a_commit(world: World) -> None:
    world.polls.append(
        [make_record(0, 4, b"a\n"), make_record(1, 9, b"b\n"), make_record(0, 5, b"q\n", "queries")]
    )
    assert run(world, committed(world)) == [
        ("insert", "clicks", b"a\nb\n", "metrics.rows:0:4-4,metrics.rows:1:9-9"),
        ("insert", "queries", b"q\n", "metrics.rows:0:5-5"),
        ("commit", {0: 6, 1: 10}),
    ]
    assert world.progress.counters() == {
        "blocks": 3,
        "rows": 3,
        "rows_clicks": 2,
        "rows_queries": 1,
        "inserts": 2,
        "retries": 0,
        "dead_letters": 0,
    }


def test_a_full_batch_does_not_wait(world: World) -> None:
    world.polls += [[make_record(0, n, b"a\n" * 10)] for n in range(4)]
    log = run(world, lambda: len(world.log) >= 4, flush_rows=20)
    assert [entry[3] for entry in log if entry[0] == "insert"] == ["metrics.rows:0:0-1", "metrics.rows:0:2-3"]


def test_an_insert_that_fails_is_repeated_as_it_was_before_anything_is_committed(world: World) -> None:
    world.insert_errors += [TryAgainError("connection refused"), TryAgainError("too many parts")]
    world.polls += [[make_record(0, 4, b"a\n")], [make_record(0, 5, b"b\n")]]
    log = run(world, lambda: ("commit", {0: 6}) in world.log, flush_rows=1)
    assert log == [
        ("insert", "clicks", b"a\n", "metrics.rows:0:4-4"),
        ("commit", {0: 5}),
        ("insert", "clicks", b"b\n", "metrics.rows:0:5-5"),
        ("commit", {0: 6}),
    ]
    assert world.progress.retries == 2
    assert world.progress.trouble == ""
    assert [trouble.split(" (")[0] for trouble in world.troubles] == ["connection refused", "too many parts"]


def test_a_table_that_is_in_is_not_inserted_again_when_the_next_one_fails(world: World) -> None:
    world.polls.append([make_record(0, 1, b"a\n"), make_record(0, 2, b"q\n", "queries")])
    original = world.insert
    failed: list[str] = []

    def insert(table: str, lines: bytes, *, origin: str) -> None:
        if table == "queries" and not failed:
            failed.append(table)
            raise TryAgainError("timed out")
        original(table, lines, origin=origin)

    world.insert = insert  # type: ignore[method-assign]  # a fake that fails for one table only
    assert [entry[:2] for entry in run(world, committed(world))] == [
        ("insert", "clicks"),
        ("insert", "queries"),
        ("commit", {0: 3}),
    ]


def test_bad_rows_become_dead_letters_before_the_commit(world: World) -> None:
    world.polls.append([make_record(0, 1, b"a\nbad\nb\n"), make_record(0, 2, b"c")])
    log = run(world, committed(world))
    assert b"".join(entry[2] for entry in log if entry[0] == "insert") == b"a\nb\nc\n"
    assert log[-3:] == [
        ("dead_letters",),
        ("send", "relevance.dead-letters", b"bad\n", b"rows_refused"),
        ("commit", {0: 3}),
    ]
    assert world.progress.dead_letters == 1


def test_a_dead_letter_that_the_table_refuses_still_reaches_the_topic(world: World) -> None:
    world.refuse_dead_letters = True
    world.polls.append([make_record(0, 1, b"bad\n")])
    assert [entry[0] for entry in run(world, committed(world))] == ["send", "commit"]


def test_a_message_that_is_no_block_is_a_dead_letter(world: World) -> None:
    world.polls.append([make_record(0, 1, b"a\n", "passwords"), make_record(0, 2, b"")])
    log = run(world, committed(world))
    assert [entry[3] for entry in log if entry[0] == "send"] == [b"row_block_unreadable"] * 2
    assert log[-1] == ("commit", {0: 3})


def test_a_commit_that_fails_is_made_good_without_another_insert(world: World) -> None:
    world.commit_errors += [KafkaTimeoutError("broker away"), CommitFailedError("rejoin")]
    world.polls.append([make_record(0, 1, b"a\n")])
    assert [entry[0] for entry in run(world, committed(world))] == ["insert", "commit"]
    assert world.troubles[0].startswith("Kafka: commit of offsets: ")


def test_blocks_read_again_are_in_the_batch_once(world: World) -> None:
    again = [make_record(0, 1, b"a\n"), make_record(0, 2, b"b\n")]
    world.polls.append([*again, *again])
    assert run(world, committed(world))[0] == ("insert", "clicks", b"a\nb\n", "metrics.rows:0:1-2")


def test_a_broker_that_is_away_is_waited_for(world: World) -> None:
    world.polls += [KafkaTimeoutError("no broker"), [make_record(0, 1, b"a\n")]]
    assert run(world, committed(world))[-1] == ("commit", {0: 2})
    assert world.troubles[0].startswith("Kafka: ")


def test_a_refusal_for_good_ends_the_sink(world: World) -> None:
    world.polls.append(TopicAuthorizationFailedError("not for you"))
    with pytest.raises(TopicAuthorizationFailedError):
        run(world, lambda: True)
    assert world.log == [("close",), ("close",)]


def test_what_was_gathered_goes_in_when_the_sink_is_stopped(world: World) -> None:
    world.polls.append([make_record(0, 1, b"a\n")])
    world.stop.clear()
    assert [entry[0] for entry in run(world, lambda: world.progress.blocks == 1)] == ["insert", "commit"]


def test_partitions_that_are_added_are_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_loop, "PARTITIONS_EVERY_S", 0.0)
    world.partitions = {0}
    world.polls.append([make_record(0, 1, b"a\n")])

    def grown() -> bool:
        if world.log and 1 not in world.partitions:
            world.partitions.add(1)
            world.polls.append([make_record(1, 7, b"b\n")])
        return ("commit", {1: 8}) in world.log

    assert run(world, grown)[-1] == ("commit", {1: 8})
