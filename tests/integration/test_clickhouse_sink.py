"""The sink from Kafka into both engines: exact counts whatever is sent twice, refused, killed or restarted."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from kafka import KafkaProducer, TopicPartition

from ops.bench.clickhouse_sink import make_row
from ops.clickhouse.migrate import migrate
from ops.clickhouse.sink import Progress, run_sink
from ops.kafka import consumer, ensure_topics, producer
from ops.settings import Settings
from streams.dead_letters import from_message
from streams.rows import to_blocks
from streams.topics import DEAD_LETTERS, METRICS_ROWS, TOPICS
from tests.integration.clickhouse_engines import LIFELINE, Broker, Engine
from tests.integration.clickhouse_server import ROOT

pytest_plugins = ["tests.integration.clickhouse_engines"]
pytestmark = pytest.mark.integration

Rows = dict[str, list[dict[str, Any]]]


def make_rows(seed: int, count: int) -> Rows:
    """Return `count` rows of each table of events."""
    randomness = random.Random(seed)
    tables = ("queries", "impressions", "clicks", "conversions", "exposures")
    return {table: [make_row(table, randomness) for _ in range(count)] for table in tables}


def send(target: KafkaProducer, table: str, rows: Sequence[dict[str, Any]], *, block_rows: int = 50) -> int:
    """Send rows in blocks of `block_rows` and return how many blocks that were."""
    blocks = 0
    for start in range(0, len(rows), block_rows):
        for block in to_blocks(table, rows[start : start + block_rows]):
            target.send(METRICS_ROWS, value=block.lines, headers=block.headers())
            blocks += 1
    target.flush()
    return blocks


class Running:
    """A sink in a thread."""

    def __init__(self) -> None:
        self.progress = Progress()
        self.troubles: list[str] = []
        self.stop = threading.Event()

    def keep(self, progress: Progress) -> None:
        self.progress = progress
        if progress.trouble:
            self.troubles.append(progress.trouble)


@contextmanager
def running_sink(settings: Settings, broker: Broker, client: Client) -> Iterator[Running]:
    running = Running()
    thread = threading.Thread(
        target=run_sink,
        args=(settings, broker.address, client),
        kwargs={"stop": running.stop, "on_progress": running.keep},
    )
    thread.start()
    try:
        yield running
    finally:
        running.stop.set()
        thread.join(30)
        assert not thread.is_alive()


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.1)


def uncommitted(settings: Settings, broker: Broker) -> int:
    """Return how many messages of the topic the group has not committed."""
    with_group = consumer(settings, broker.address, group_id=settings.metrics.group)
    try:
        partitions = [TopicPartition(METRICS_ROWS, p) for p in range(settings.streams.partitions)]
        ends = with_group.end_offsets(partitions)
        return sum(end - (with_group.committed(partition) or 0) for partition, end in ends.items())
    finally:
        with_group.close(autocommit=False)


def counts(client: Client) -> dict[str, int]:
    return {
        table: int(str(client.command(f"SELECT count() FROM {table} FINAL")))
        for table in ("queries", "impressions", "clicks", "conversions", "exposures", "dead_letters")
    }


def dead_letters(broker: Broker) -> list[Any]:
    """Return the records of the topic of dead letters."""
    partition = TopicPartition(DEAD_LETTERS, 0)
    reader = consumer(Settings(), broker.address)
    try:
        reader.assign([partition])
        end, found = reader.end_offsets([partition])[partition], []
        while reader.position(partition) < end:
            for records in reader.poll(timeout_ms=500).values():
                found += records
        return found
    finally:
        reader.close(autocommit=False)


@pytest.fixture
def topics(own_broker: Broker) -> Iterator[KafkaProducer]:
    """The topics, and a producer."""
    ensure_topics(Settings(), own_broker.address, TOPICS)
    target = producer(Settings(), own_broker.address)
    yield target
    target.close(timeout=5)


def test_duplicates_and_versions_in_any_order_are_counted_once(
    engine: Engine, own_broker: Broker, topics: KafkaProducer
) -> None:
    client = engine.open()
    migrate(client)
    rows = make_rows(1, 400)
    sent = sum(send(topics, table, found) for table, found in rows.items())
    # The same rows again in other blocks, and what was known of them earlier and later.
    late = [row | {"version": 1, "traffic_class": "unknown", "arms": {}} for row in rows["clicks"][:150]]
    sent += send(topics, "clicks", late, block_rows=13)
    sent += send(topics, "queries", rows["queries"][::-1], block_rows=70)
    sent += send(
        topics, "impressions", [row | {"version": 4, "score": 0.5} for row in rows["impressions"][:100]]
    )
    with running_sink(engine.settings, own_broker, client) as running:
        wait_until(lambda: uncommitted(engine.settings, own_broker) == 0, "the commit")
        assert running.progress.blocks == sent
    assert running.troubles == []
    expected = dict.fromkeys(rows, 400) | {"dead_letters": 0}
    assert counts(client) == expected
    classes = client.query("SELECT traffic_class, count() FROM clicks FINAL GROUP BY 1").result_rows
    assert {str(name): int(count) for name, count in classes} == Counter(
        row["traffic_class"] for row in rows["clicks"]
    )
    assert client.command("SELECT countIf(version = 4 AND score = 0.5) FROM impressions FINAL") == 100
    first = rows["conversions"][0]
    kept = client.query(
        "SELECT toString(event_id), toUnixTimestamp64Milli(event_time), arms, revenue, position"
        " FROM conversions FINAL WHERE event_id = {event_id:UUID}",
        parameters={"event_id": first["event_id"]},
    ).result_rows
    assert list(kept) == [
        (first["event_id"], first["event_time"], first["arms"], first["revenue"], first["position"])
    ]

    # Everything once more, as another group with other batches would.
    again = engine.settings.model_copy(
        update={"metrics": engine.settings.metrics.model_copy(update={"group": "again", "flush_rows": 333})}
    )
    with running_sink(again, own_broker, client):
        wait_until(lambda: uncommitted(again, own_broker) == 0, "the second commit")
    assert counts(client) == expected


def test_bad_rows_become_dead_letters_and_all_others_are_inserted(
    engine: Engine, own_broker: Broker, topics: KafkaProducer
) -> None:
    client = engine.open()
    migrate(client)
    rows = make_rows(2, 300)["clicks"]
    (good,) = to_blocks("clicks", rows[:100])
    spoilt = to_blocks("clicks", rows[100:200])
    lines = next(iter(spoilt)).lines.splitlines(keepends=True)
    lines[7] = b'{"event_id": "' + "é".encode() * 300 + b'"}\n'
    lines[8] = b"\xff\xfe not json\n"
    lines[60] = lines[60].replace(b'"position":', b'"position":"x","more":')
    headers = [("table", b"clicks"), ("rows", b"100")]
    topics.send(METRICS_ROWS, value=good.lines, headers=good.headers(), partition=0).get(30)
    where = topics.send(METRICS_ROWS, value=b"".join(lines), headers=headers, partition=0, key=b"k").get(30)
    no_block = topics.send(METRICS_ROWS, value=b"\x00what", headers=[("table", b"users")], partition=1).get(
        30
    )
    send(topics, "clicks", rows[200:])
    with running_sink(engine.settings, own_broker, client):
        wait_until(lambda: uncommitted(engine.settings, own_broker) == 0, "the commit")
    assert counts(client)["clicks"] == 297
    found = [
        from_message(record.headers, key=record.key, value=record.value)
        for record in dead_letters(own_broker)
    ]
    by_reason = {letter.reason: letter for letter in found}
    assert len(found) == 2
    refused, unreadable = by_reason["rows_refused"], by_reason["row_block_unreadable"]
    assert refused.value == lines[7] + lines[8] + lines[60]
    assert (refused.topic, refused.partition, refused.offset, refused.key) == (
        METRICS_ROWS,
        0,
        where.offset,
        b"k",
    )
    assert refused.detail.startswith("3 of 100 rows for clicks: ")
    assert (unreadable.value, unreadable.offset) == (b"\x00what", no_block.offset)
    table = client.query(
        "SELECT reason, source_offset, payload_bytes FROM dead_letters FINAL ORDER BY reason"
    ).result_rows
    assert list(table) == [
        ("row_block_unreadable", no_block.offset, 5),
        ("rows_refused", where.offset, len(refused.value)),
    ]


def start_sink_process(engine: Engine, broker: Broker) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*LIFELINE, sys.executable, "-m", "tests.integration.clickhouse_sink_process", broker.address],
        cwd=ROOT,
        env=engine.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for_work(process: subprocess.Popen[str], *, blocks: int) -> None:
    """Return when the process says that it has read so many blocks."""
    assert process.stdout is not None
    for line in process.stdout:
        if int(line.split()[1]) >= blocks:
            return
    raise AssertionError(f"the sink's process ended with {process.wait()}")


def test_three_kills_under_load_lose_and_double_nothing(
    engine: Engine, own_broker: Broker, topics: KafkaProducer
) -> None:
    rows = make_rows(3, 3000)

    def load() -> None:
        for start in range(0, 3000, 100):
            for table, found in rows.items():
                send(topics, table, found[start : start + 100], block_rows=40)
            time.sleep(0.15)

    sender = threading.Thread(target=load)
    sender.start()
    for _ in range(3):
        process = start_sink_process(engine, own_broker)
        wait_for_work(process, blocks=30)
        time.sleep(random.Random(process.pid).random() * 0.5)
        process.kill()
        process.communicate()
    sender.join()
    process = start_sink_process(engine, own_broker)
    wait_until(lambda: uncommitted(engine.settings, own_broker) == 0, "the commit of everything")
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0
    client = engine.open()
    assert counts(client) == dict.fromkeys(rows, 3000) | {"dead_letters": 0}
    for table, found in rows.items():
        sums = client.query(
            f"SELECT uniqExact(event_id), sum(cityHash64(event_id)) FROM {table} FINAL"
        ).result_rows
        ids = [row["event_id"] for row in found]
        expected = client.query(
            "SELECT uniqExact(id), sum(cityHash64(toUUID(id))) FROM (SELECT arrayJoin({ids:Array(String)}) AS id)",
            parameters={"ids": ids},
        ).result_rows
        assert list(sums) == list(expected)


def test_a_restart_of_the_broker_loses_nothing(
    engine: Engine, own_broker: Broker, topics: KafkaProducer
) -> None:
    client = engine.open()
    migrate(client)
    rows = make_rows(4, 500)["impressions"]
    with running_sink(engine.settings, own_broker, client) as running:
        send(topics, "impressions", rows[:250])
        wait_until(lambda: running.progress.rows["impressions"] >= 100, "the first rows")
        own_broker.stop()
        time.sleep(2)
        own_broker.start()
        send(topics, "impressions", rows[250:])
        wait_until(lambda: uncommitted(engine.settings, own_broker) == 0, "the commit")
        wait_until(lambda: running.progress.trouble == "", "the end of trouble")
    assert counts(client)["impressions"] == 500


@pytest.mark.parametrize("engine", ["server"], indirect=True)
def test_a_server_that_is_away_is_waited_for(
    engine: Engine, own_broker: Broker, topics: KafkaProducer, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("clickhouse_server")
    client = engine.open()
    migrate(client)
    rows = make_rows(5, 500)["impressions"]
    with running_sink(engine.settings, own_broker, client) as running:
        send(topics, "impressions", rows[:250])
        wait_until(lambda: running.progress.inserts > 0, "the first insert")
        server.kill()
        try:
            send(topics, "impressions", rows[250:])
            wait_until(lambda: running.progress.retries >= 2, "tries while the server is away")
        finally:
            server.start()
        wait_until(lambda: uncommitted(engine.settings, own_broker) == 0, "the commit")
        wait_until(lambda: running.progress.trouble == "", "the end of trouble")
    assert any("Connection refused" in trouble for trouble in running.troubles)
    assert not any("p@ss" in trouble for trouble in running.troubles)
    assert counts(engine.open())["impressions"] == 500


def test_the_page_reads_while_the_sink_writes(
    engine: Engine, own_broker: Broker, topics: KafkaProducer
) -> None:
    client = engine.open()
    migrate(client)
    rows = make_rows(6, 2000)
    shared = engine.open()
    errors: list[BaseException] = []
    reads: Counter[str] = Counter()
    stop = threading.Event()

    def read(table: str) -> None:
        try:
            while not stop.is_set():
                seen = shared.query(
                    f"SELECT count(), uniqExact(event_id) FROM {table} FINAL WHERE version >= {{least:UInt8}}",
                    parameters={"least": 1},
                ).result_rows
                assert seen[0][0] == seen[0][1]
                reads[table] += 1
        except BaseException as error:  # noqa: BLE001  # whatever it is, the test shall show it
            errors.append(error)

    readers = [threading.Thread(target=read, args=(table,)) for table in rows]
    with running_sink(engine.settings, own_broker, client) as running:
        for reader in readers:
            reader.start()
        for start in range(0, 2000, 200):
            for table, found in rows.items():
                send(topics, table, found[start : start + 200])
        wait_until(lambda: uncommitted(engine.settings, own_broker) == 0, "the commit")
        stop.set()
        for reader in readers:
            reader.join()
    assert errors == []
    assert running.troubles == []
    assert min(reads[table] for table in rows) > 0
    assert counts(client) == dict.fromkeys(rows, 2000) | {"dead_letters": 0}
