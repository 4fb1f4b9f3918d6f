"""The sink: row blocks from Kafka into ClickHouse, in batches; offsets are committed when the rows are in.

A batch holds the blocks of all partitions and makes one insert for each table, about once a second: an insert
costs 10 to 20 ms of processor time however few rows it has, a row about 8 µs. Nothing is lost: what was not
committed is read again, by this process or the next. Nothing is counted twice: a repeated insert has the same
deduplication token, and rows that come again in another batch replace themselves by key (read with FINAL).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from clickhouse_connect.driver.client import Client
from kafka import KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from ops.batch_loop import CONSUMER_OPTIONS, BatchLoop
from ops.clickhouse.dead_letters import Undelivered, deliver, refused, unreadable
from ops.clickhouse.inserting import Inserter, Part, TryAgainError, insert_what_fits
from ops.kafka import consumer as open_consumer
from ops.kafka import producer as open_producer
from ops.settings import Settings
from streams.rows import RowBlock, from_message
from streams.topics import METRICS_ROWS

MAX_BATCH_BYTES = 64_000_000


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

    One sink takes all partitions and keeps its offsets under `settings.metrics.group` (see `ops.batch_loop`). A
    second sink would insert everything once more, which changes no count.
    """
    records = open_consumer(settings, bootstrap, group_id=settings.metrics.group, **CONSUMER_OPTIONS)
    producer = open_producer(settings, bootstrap)
    progress = Progress()
    batch = _Batch(
        settings,
        producer=producer,
        inserter=Inserter(client),
        stop=stop,
        progress=progress,
        on_progress=on_progress,
    )
    try:
        BatchLoop(
            batch,
            topics=(METRICS_ROWS,),
            consumer=records,
            write_within_s=settings.metrics.flush_within_s,
            retry_on=(TryAgainError,),
            progress=progress,
            on_progress=on_progress,
            stop=stop,
        ).run()
    finally:
        producer.close(timeout=5)
        records.close(autocommit=False, timeout_ms=5000)


class _Batch:
    """Blocks that are not in ClickHouse yet, by table."""

    def __init__(
        self,
        settings: Settings,
        *,
        producer: KafkaProducer,
        inserter: Inserter,
        stop: threading.Event,
        progress: Progress,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._flush_rows = settings.metrics.flush_rows
        self._producer = producer
        self._inserter = inserter
        self._stop = stop
        self._progress = progress
        self._on_progress = on_progress
        self._failed = False
        self._empty()

    def _empty(self) -> None:
        self._blocks: dict[str, list[tuple[ConsumerRecord, RowBlock]]] = {}
        self._dead_letters: list[Undelivered] = []
        self._rows = 0
        self._bytes = 0

    def start_at(self, partition: TopicPartition) -> int | None:
        """Start at the committed offset."""
        return None

    def take(self, record: ConsumerRecord) -> None:
        """Take a message in."""
        self._progress.blocks += 1
        try:
            block = from_message(record.headers, record.value)
        except ValueError as error:
            self._dead_letters.append(unreadable(record, error, at_ms=_now_ms()))
            return
        self._blocks.setdefault(block.table, []).append((record, block))
        self._rows += block.rows
        self._bytes += len(block.lines)
        self._progress.rows[block.table] += block.rows

    def is_full(self) -> bool:
        """Tell whether there is enough for an insert."""
        return self._rows >= self._flush_rows or self._bytes >= MAX_BATCH_BYTES

    def write(self) -> None:
        """Insert table by table; what is in leaves the batch. Raises TryAgainError."""
        for table in sorted(self._blocks):
            messages = self._blocks[table]
            parts = [Part(number, _ended(block.lines)) for number, (_, block) in enumerate(messages)]
            insert = partial(self._insert, table, _origin([record for record, _ in messages]))
            refusals = list(insert_what_fits(parts, insert))
            self._dead_letters += refused(messages, refusals, at_ms=_now_ms())
            del self._blocks[table]
        if self._dead_letters:
            deliver(self._dead_letters, inserter=self._inserter, producer=self._producer)
            self._progress.dead_letters += len(self._dead_letters)
        self._empty()

    def rest(self) -> None:
        """Nothing is due."""

    def _insert(self, table: str, origin: str, lines: bytes) -> None:
        if self._stop.is_set() and self._failed:
            raise TryAgainError("stopped")
        self._on_progress(self._progress)
        try:
            self._inserter.insert(table, lines, origin=origin)
        except TryAgainError:
            self._failed = True
            raise
        self._failed = False
        self._progress.inserts += 1


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
