"""The pusher: `engagement.windows` and `catalogue.items` from Kafka into the feature store, in batches.

Offsets are committed when both stores have the rows, so nothing is lost; what comes again changes nothing
(`feature_store.writing`, `feature_store.engagement`). While a batch can't be written nothing more is read: the
records wait in Kafka. What can't be taken becomes a dead letter. An item whose text changed is reported before its
new text is online, so a crash reports it twice rather than never.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from feature_store import offline
from feature_store.content import ContentChange, changes, pairs_to_judge_again
from feature_store.definitions import AS_OF, ITEM_CONTENT, PAIR_ENGAGEMENT
from feature_store.engagement import Known, merge, pairs_of
from feature_store.intake import Limits, RefusedError, catalogue_row, dead_letter, engagement_window
from feature_store.online import OnlineStoreCorruptError, OnlineStoreError
from feature_store.rows import FeatureRow
from feature_store.writing import FeatureWriter, Written
from ops.kafka import consumer as open_consumer
from ops.kafka import producer as open_producer
from ops.settings import Settings
from streams.dead_letters import DeadLetter
from streams.records import EngagementWindow, Pair
from streams.rows import to_blocks
from streams.topics import CATALOGUE_ITEMS, DEAD_LETTERS, ENGAGEMENT_WINDOWS, METRICS_ROWS, PAIRS

logger = logging.getLogger(__name__)

SOURCES = (ENGAGEMENT_WINDOWS, CATALOGUE_ITEMS)
MAX_POLL_RECORDS = 100
#: As in the ClickHouse sink: polls that don't wait, but one in so many empty ones.
POLL_EVERY_S = 0.1
EMPTY_POLLS = 20
PATIENT_POLL_MS = 100
PARTITIONS_EVERY_S = 30.0
COMMIT_TIMEOUT_MS = 5_000
SEND_TIMEOUT_S = 30
BACKOFF_FIRST_S = 0.25
BACKOFF_MOST_S = 15.0
#: How often hours are packed and expired rows leave sqlite.
TIDY_EVERY_S = 900.0

OnChanges = Callable[[Sequence[ContentChange]], None]


@dataclass(slots=True)
class Progress:
    """What the pusher has done since its start, for a heartbeat. `trouble` is one line for people, empty if all is
    well. `late` rows are in the offline store only."""

    records: int = 0
    offline_rows: int = 0
    online_rows: int = 0
    late: int = 0
    content_changes: int = 0
    dead_letters: int = 0
    batches: int = 0
    retries: int = 0
    packed_files: int = 0
    trouble: str = ""

    def counters(self) -> dict[str, float]:
        """Return the numbers by name."""
        return {name: float(getattr(self, name)) for name in self.__slots__ if name != "trouble"}


def run_pusher(
    settings: Settings,
    bootstrap: str,
    *,
    stop: threading.Event,
    on_progress: Callable[[Progress], None],
    on_changes: OnChanges | None = None,
) -> None:
    """Push from the topics until `stop` is set. The store must have been applied and the topics exist.

    `on_changes` gets the items whose text changed and returns once that is safely passed on; what it raises is
    tried again if it is a KafkaError, OSError or OnlineStoreError. While a store or the broker can't be reached the
    pusher tries again for ever and says so in `Progress.trouble`. Raises KafkaError if the broker refuses for good.

    One pusher takes all partitions; it is no member of its group (see `ops.clickhouse.sink`).
    """
    records = open_consumer(
        settings,
        bootstrap,
        group_id=settings.features.group,
        max_poll_records=MAX_POLL_RECORDS,
        metadata_max_age_ms=int(PARTITIONS_EVERY_S * 1000),
        reconnect_backoff_max_ms=1000,
    )
    producer = open_producer(settings, bootstrap)
    writer = FeatureWriter(settings)
    try:
        Pusher(
            settings,
            consumer=records,
            producer=producer,
            writer=writer,
            stop=stop,
            on_progress=on_progress,
            on_changes=on_changes,
        ).run()
    finally:
        writer.close()
        producer.close(timeout=5)
        records.close(autocommit=False, timeout_ms=5000)


def judge_again(
    producer: KafkaProducer,
    judged_queries: Callable[[Sequence[str]], Mapping[str, Iterable[str]]],
    *,
    within_s: float,
) -> OnChanges:
    """Return an `on_changes` that sends the judged pairs of changed items to `relevance.pairs`, with a deadline of
    `within_s` seconds."""

    def send(changed: Sequence[ContentChange]) -> None:
        now_ms = _now_ms()
        deadline_ms = now_ms + int(within_s * 1000)
        send_pairs(
            producer, pairs_to_judge_again(changed, judged_queries, now_ms=now_ms, deadline_ms=deadline_ms)
        )

    return send


def send_pairs(producer: KafkaProducer, pairs: Iterable[Pair]) -> int:
    """Send pairs to `relevance.pairs`, wait until the broker has them, and return how many there were. Raises
    KafkaError."""
    sent = [
        producer.send(PAIRS, key=pair.query.encode("utf-8", "surrogatepass"), value=msgspec.json.encode(pair))
        for pair in pairs
    ]
    _wait_for(producer, sent)
    return len(sent)


class _Batch:
    def __init__(self) -> None:
        self.windows: list[EngagementWindow] = []
        self.content: list[FeatureRow] = []
        self.dead_letters: list[DeadLetter] = []
        self.next_offsets: dict[TopicPartition, int] = {}
        self.rows = 0
        self.since_s = 0.0

    def add(self, record: ConsumerRecord, limits: Limits, now_s: float) -> None:
        """Take a record in, unless it is in the batch already."""
        partition = TopicPartition(record.topic, record.partition)
        if record.offset < self.next_offsets.get(partition, 0):
            return
        if not self.next_offsets:
            self.since_s = now_s
        self.next_offsets[partition] = record.offset + 1
        try:
            if record.topic == ENGAGEMENT_WINDOWS:
                window = engagement_window(record, limits)
                self.windows.append(window)
                self.rows += len(window.items)
            else:
                self.content.append(catalogue_row(record, limits))
                self.rows += 1
        except RefusedError as error:
            self.dead_letters.append(dead_letter(record, error, at_ms=limits.now_ms))


class Pusher:
    """The loop of `run_pusher`, over connections that are given."""

    def __init__(
        self,
        settings: Settings,
        *,
        consumer: KafkaConsumer,
        producer: KafkaProducer,
        writer: FeatureWriter,
        stop: threading.Event,
        on_progress: Callable[[Progress], None],
        on_changes: OnChanges | None,
    ) -> None:
        self._features = settings.features
        self._max_future_ms = int(settings.ubi.max_future_s * 1000)
        self._windows_kept = settings.streams.engagement_windows_kept
        self._consumer = consumer
        self._producer = producer
        self._writer = writer
        self._stop = stop
        self._on_progress = on_progress
        self._on_changes = on_changes
        self._progress = Progress()
        self._batch = _Batch()
        self._uncommitted: dict[TopicPartition, int] = {}
        self._assign_at_s = 0.0
        self._tidy_at_s = time.monotonic() + TIDY_EVERY_S
        self._empty_polls = EMPTY_POLLS - 1
        self._failures = 0
        self._retry_at_s = 0.0

    def run(self) -> None:
        """Push until told to stop, then once more what is at hand."""
        while not self._stop.is_set():
            self._gather()
            now_s = time.monotonic()
            if self._is_due(now_s) and now_s >= self._retry_at_s:
                self._push_or_back_off()
            if now_s >= self._tidy_at_s and not self._failures:
                self._tidy()
                self._tidy_at_s = now_s + TIDY_EVERY_S
            self._report()
        if not self._failures:
            self._push_or_back_off()
            self._report()

    def _gather(self) -> None:
        if self._failures:
            self._stop.wait(POLL_EVERY_S)
            return
        try:
            if not self._assign():
                self._stop.wait(POLL_EVERY_S)
                return
            patient = self._empty_polls % EMPTY_POLLS == EMPTY_POLLS - 1
            polled = self._consumer.poll(timeout_ms=PATIENT_POLL_MS if patient else 0)
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
        limits = Limits(now_ms=_now_ms(), max_future_ms=self._max_future_ms)
        now_s = time.monotonic()
        for records in polled.values():
            self._progress.records += len(records)
            for record in records:
                self._batch.add(record, limits, now_s)

    def _assign(self) -> bool:
        now_s = time.monotonic()
        if now_s < self._assign_at_s:
            return True
        assigned = []
        for topic in SOURCES:
            partitions = self._consumer.partitions_for_topic(topic)
            if not partitions:
                self._report(f"Kafka: there is no topic {topic}")
                return False
            assigned += [TopicPartition(topic, number) for number in sorted(partitions)]
        self._consumer.assign(assigned)
        self._assign_at_s = now_s + PARTITIONS_EVERY_S
        return True

    def _is_due(self, now_s: float) -> bool:
        batch = self._batch
        if not batch.next_offsets:
            return bool(self._uncommitted)
        return (
            batch.rows >= self._features.flush_rows or now_s - batch.since_s >= self._features.flush_within_s
        )

    def _push_or_back_off(self) -> None:
        try:
            self._push()
            self._commit()
        except (OnlineStoreError, OSError, KafkaError) as error:
            if isinstance(error, KafkaError) and not error.retriable:
                raise
            self._failures += 1
            self._progress.retries += 1
            delay_s = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(self._failures - 1, 10))
            self._retry_at_s = time.monotonic() + delay_s
            self._report(f"{_line(error)} (failed {self._failures} times, next try in {delay_s:.1f} s)")
        else:
            self._failures = 0
            self._progress.trouble = ""

    def _push(self) -> None:
        """Write the batch into both stores. What went well is not done again when the rest is tried again."""
        batch = self._batch
        if batch.content:
            self._count(self._push_content(batch.content))
            batch.content = []
        if batch.windows:
            self._count(self._push_engagement(batch.windows))
            batch.windows = []
        if batch.dead_letters:
            self._deliver(batch.dead_letters)
            self._progress.dead_letters += len(batch.dead_letters)
        if batch.next_offsets:
            self._progress.batches += 1
        self._uncommitted |= batch.next_offsets
        self._batch = _Batch()

    def _push_content(self, rows: Sequence[FeatureRow]) -> Written:
        keys = list({row.key: None for row in rows})
        stored = self._writer.read(ITEM_CONTENT, keys, ("content_hash", AS_OF))
        known = {
            key[0]: (row["content_hash"].string_val, row[AS_OF].int64_val) for key, row in stored.items()
        }

        def report(newer: Sequence[FeatureRow]) -> None:
            changed = changes(newer, known)
            if changed and self._on_changes is not None:
                self._on_changes(changed)
            self._progress.content_changes += len(changed)

        return self._writer.write(ITEM_CONTENT, rows, before_online=report)

    def _push_engagement(self, windows: Sequence[EngagementWindow]) -> Written:
        stored = self._writer.read(PAIR_ENGAGEMENT, pairs_of(windows), ("windows", AS_OF))
        known = {
            (key[0], key[1]): Known(row["windows"].bytes_val, row[AS_OF].int64_val)
            for key, row in stored.items()
        }
        try:
            rows = merge(windows, known, windows_kept=self._windows_kept)
        except ValueError as error:
            raise OnlineStoreCorruptError(
                f"{error}; make the online store anew: relevance features rebuild"
            ) from error
        return self._writer.write(PAIR_ENGAGEMENT, rows)

    def _count(self, written: Written) -> None:
        self._progress.offline_rows += written.offline
        self._progress.online_rows += written.online
        self._progress.late += written.late

    def _deliver(self, letters: Sequence[DeadLetter]) -> None:
        sent = [
            self._producer.send(DEAD_LETTERS, key=letter.key, value=letter.value, headers=letter.headers())
            for letter in letters
        ]
        for block in to_blocks("dead_letters", [letter.row() for letter in letters]):
            sent.append(self._producer.send(METRICS_ROWS, value=block.lines, headers=block.headers()))
        _wait_for(self._producer, sent)

    def _commit(self) -> None:
        if self._uncommitted:
            offsets = {partition: OffsetAndMetadata(n) for partition, n in self._uncommitted.items()}
            self._consumer.commit(offsets, timeout_ms=COMMIT_TIMEOUT_MS)
        self._uncommitted = {}

    def _tidy(self) -> None:
        try:
            for view in self._writer.definitions.views.values():
                self._progress.packed_files += offline.pack(view, now_s=time.time())
            self._writer.expire()
        except (OnlineStoreError, OSError) as error:
            logger.warning("tidying is put off: %s", _line(error))

    def _report(self, trouble: str | None = None) -> None:
        if trouble is not None and trouble != self._progress.trouble:
            logger.warning("%s", trouble)
            self._progress.trouble = trouble
        self._on_progress(self._progress)


def _wait_for(producer: KafkaProducer, sent: Sequence[Any]) -> None:
    producer.flush(timeout=SEND_TIMEOUT_S)
    for future in sent:
        future.get(timeout=SEND_TIMEOUT_S)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _line(error: BaseException) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:300]
