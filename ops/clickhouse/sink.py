"""The sink: row blocks from Kafka into ClickHouse, in batches; offsets are committed when the rows are in.

A batch holds the blocks of all partitions and makes one insert for each table, about once a second: an insert
costs 10 to 20 ms of processor time however few rows it has, a row about 8 µs. Nothing is lost: what was not
committed is read again, by this process or the next. Nothing is counted twice: a repeated insert has the same
deduplication token, and rows that come again in another batch replace themselves by key (read with FINAL).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from clickhouse_connect.driver.client import Client
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from ops.clickhouse.dead_letters import Undelivered, deliver, refused, unreadable
from ops.clickhouse.inserting import Inserter, Part, TryAgainError, insert_what_fits
from ops.kafka import consumer as open_consumer
from ops.kafka import producer as open_producer
from ops.settings import Settings
from streams.rows import RowBlock, from_message
from streams.topics import METRICS_ROWS

logger = logging.getLogger(__name__)

MAX_BATCH_BYTES = 64_000_000
MAX_POLL_RECORDS = 100
#: A poll that waits asks again and again where the broker answers at once, as the embedded one does: a whole
#: core. So polls don't wait, and come at this pace while there is nothing.
POLL_EVERY_S = 0.1
#: But a poll that doesn't wait can't find the broker that keeps the offsets, so one in so many empty ones waits.
EMPTY_POLLS = 20
PATIENT_POLL_MS = 100
PARTITIONS_EVERY_S = 30.0
COMMIT_TIMEOUT_MS = 5_000
BACKOFF_FIRST_S = 0.25
BACKOFF_MOST_S = 15.0


@dataclass(slots=True)
class Progress:
    """What the sink has done since its start, for a heartbeat.

    `blocks` and `rows` (by table) count what was read, refused rows among them. `inserts` counts those that went
    in. `trouble` is one line for people, empty if all is well.
    """

    blocks: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    inserts: int = 0
    retries: int = 0
    dead_letters: int = 0
    trouble: str = ""

    def counters(self) -> dict[str, float]:
        """Return the numbers by name; `rows_TABLE` for each table seen."""
        return {
            "blocks": self.blocks,
            "rows": sum(self.rows.values()),
            **{f"rows_{table}": count for table, count in sorted(self.rows.items())},
            "inserts": self.inserts,
            "retries": self.retries,
            "dead_letters": self.dead_letters,
        }


def run_sink(
    settings: Settings,
    bootstrap: str,
    client: Client,
    *,
    stop: threading.Event,
    on_progress: Callable[[Progress], None],
) -> None:
    """Move row blocks from topic `metrics.rows` into the client's database until `stop` is set.

    The topics must exist and the migrations be applied. `on_progress` is called in this thread, about ten times a
    second while all goes well. While ClickHouse or the broker can't be reached the sink tries again for ever and
    says so in `Progress.trouble`. Raises KafkaError if the broker refuses for good.

    One sink takes all partitions and keeps its offsets under `settings.metrics.group`. It is no member of the
    group: kafka-python 3.0 loses a rebalance that ends between two polls, and the embedded broker never
    forgets a dead member. A second sink would insert everything once more, which changes no count.
    """
    records = open_consumer(
        settings,
        bootstrap,
        group_id=settings.metrics.group,
        max_poll_records=MAX_POLL_RECORDS,
        metadata_max_age_ms=int(PARTITIONS_EVERY_S * 1000),
        reconnect_backoff_max_ms=1000,
    )
    producer = open_producer(settings, bootstrap)
    try:
        _Sink(
            settings,
            consumer=records,
            producer=producer,
            inserter=Inserter(client),
            stop=stop,
            on_progress=on_progress,
        ).run()
    finally:
        producer.close(timeout=5)
        records.close(autocommit=False, timeout_ms=5000)


class _Batch:
    """Blocks that are not in ClickHouse yet, by table, and the offsets to commit when they are."""

    def __init__(self) -> None:
        self.blocks: dict[str, list[tuple[ConsumerRecord, RowBlock]]] = {}
        self.dead_letters: list[Undelivered] = []
        self.next_offsets: dict[TopicPartition, int] = {}
        self.rows = 0
        self.bytes = 0
        self.since_s = 0.0

    def add(self, record: ConsumerRecord, now_s: float) -> RowBlock | None:
        """Take a message in. Returns its block, or None if it is not one, or is in the batch already."""
        partition = TopicPartition(record.topic, record.partition)
        if record.offset < self.next_offsets.get(partition, 0):
            return None
        if not self.next_offsets:
            self.since_s = now_s
        self.next_offsets[partition] = record.offset + 1
        try:
            block = from_message(record.headers, record.value)
        except ValueError as error:
            self.dead_letters.append(unreadable(record, error, at_ms=_now_ms()))
            return None
        self.blocks.setdefault(block.table, []).append((record, block))
        self.rows += block.rows
        self.bytes += len(block.lines)
        return block


class _Sink:
    def __init__(
        self,
        settings: Settings,
        *,
        consumer: KafkaConsumer,
        producer: KafkaProducer,
        inserter: Inserter,
        stop: threading.Event,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._flush_rows = settings.metrics.flush_rows
        self._flush_within_s = settings.metrics.flush_within_s
        self._consumer = consumer
        self._producer = producer
        self._inserter = inserter
        self._stop = stop
        self._on_progress = on_progress
        self._progress = Progress()
        self._batch = _Batch()
        self._uncommitted: dict[TopicPartition, int] = {}
        self._assign_at_s = 0.0
        self._empty_polls = EMPTY_POLLS - 1
        self._failures = 0
        self._retry_at_s = 0.0

    def run(self) -> None:
        while not self._stop.is_set():
            self._gather()
            now_s = time.monotonic()
            if self._is_due(now_s) and now_s >= self._retry_at_s:
                self._flush_or_back_off()
            self._report()
        # One try: what does not get in now is read again after the next start.
        if not self._failures:
            self._flush_or_back_off()
            self._report()

    def _gather(self) -> None:
        """Poll for blocks; while an insert waits to be tried again, wait."""
        if self._failures:
            self._stop.wait(POLL_EVERY_S)
            return
        try:
            if not self._assign():
                self._stop.wait(POLL_EVERY_S)
                return
            polled = self._consumer.poll(timeout_ms=self._poll_ms())
        except KafkaError as error:
            if not error.retriable:
                raise
            self._report(f"Kafka: {_line(error)}")
            self._stop.wait(BACKOFF_FIRST_S)
            return
        self._progress.trouble = ""
        self._empty_polls = 0 if polled else self._empty_polls + 1
        if not polled:
            self._stop.wait(POLL_EVERY_S)
        now_s = time.monotonic()
        for messages in polled.values():
            for record in messages:
                self._progress.blocks += 1
                block = self._batch.add(record, now_s)
                if block is not None:
                    self._progress.rows[block.table] += block.rows

    def _assign(self) -> bool:
        """Take all partitions of the topic, new ones too. Returns False if there is no topic."""
        now_s = time.monotonic()
        if now_s < self._assign_at_s:
            return True
        partitions = self._consumer.partitions_for_topic(METRICS_ROWS)
        if not partitions:
            self._report(f"Kafka: there is no topic {METRICS_ROWS}")
            return False
        self._consumer.assign([TopicPartition(METRICS_ROWS, number) for number in sorted(partitions)])
        self._assign_at_s = now_s + PARTITIONS_EVERY_S
        return True

    def _poll_ms(self) -> int:
        return PATIENT_POLL_MS if self._empty_polls % EMPTY_POLLS == EMPTY_POLLS - 1 else 0

    def _is_due(self, now_s: float) -> bool:
        batch = self._batch
        if not batch.next_offsets:
            return bool(self._uncommitted)
        full = batch.rows >= self._flush_rows or batch.bytes >= MAX_BATCH_BYTES
        return full or now_s - batch.since_s >= self._flush_within_s

    def _flush_or_back_off(self) -> None:
        try:
            self._flush()
            self._commit()
        except TryAgainError as error:
            self._failures += 1
            self._progress.retries += 1
            delay_s = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(self._failures - 1, 10))
            self._retry_at_s = time.monotonic() + delay_s
            self._report(f"{error} (failed {self._failures} times, next try in {delay_s:.1f} s)")
        else:
            self._failures = 0
            self._progress.trouble = ""

    def _flush(self) -> None:
        """Insert the batch, table by table; what is in leaves the batch. Raises TryAgainError."""
        batch = self._batch
        for table in sorted(batch.blocks):
            messages = batch.blocks[table]
            parts = [Part(number, _ended(block.lines)) for number, (_, block) in enumerate(messages)]
            insert = partial(self._insert, table, _origin([record for record, _ in messages]))
            refusals = list(insert_what_fits(parts, insert))
            batch.dead_letters += refused(messages, refusals, at_ms=_now_ms())
            del batch.blocks[table]
        if batch.dead_letters:
            deliver(batch.dead_letters, inserter=self._inserter, producer=self._producer)
            self._progress.dead_letters += len(batch.dead_letters)
        self._uncommitted |= batch.next_offsets
        self._batch = _Batch()

    def _insert(self, table: str, origin: str, lines: bytes) -> None:
        if self._stop.is_set() and self._failures:
            raise TryAgainError("stopped")
        self._on_progress(self._progress)
        self._inserter.insert(table, lines, origin=origin)
        self._progress.inserts += 1

    def _commit(self) -> None:
        """Commit the offsets of what is inserted. Raises TryAgainError."""
        if self._uncommitted:
            offsets = {partition: OffsetAndMetadata(n) for partition, n in self._uncommitted.items()}
            try:
                self._consumer.commit(offsets, timeout_ms=COMMIT_TIMEOUT_MS)
            except KafkaError as error:
                raise TryAgainError(f"Kafka: commit of offsets: {_line(error)}") from error
        self._uncommitted = {}

    def _report(self, trouble: str | None = None) -> None:
        if trouble is not None and trouble != self._progress.trouble:
            logger.warning("%s", trouble)
            self._progress.trouble = trouble
        self._on_progress(self._progress)


def _origin(records: Sequence[ConsumerRecord]) -> str:
    """Return first and last offset by partition, e.g. `metrics.rows:0:17-40,metrics.rows:1:3-3`."""
    offsets: dict[tuple[str, int], list[int]] = {}
    for record in records:
        offsets.setdefault((record.topic, record.partition), []).append(record.offset)
    return ",".join(
        f"{topic}:{partition}:{min(of)}-{max(of)}" for (topic, partition), of in sorted(offsets.items())
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _ended(lines: bytes) -> bytes:
    return lines if lines.endswith(b"\n") else lines + b"\n"


def _line(error: BaseException) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:200]
