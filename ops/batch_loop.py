"""Records from Kafka to a store, in batches: the loop that all such processes share. Offsets are committed when a
batch is written, so nothing is lost; what is written twice is the store's to bear.

The loop takes all partitions of its topics and keeps its offsets under a group, but is no member of the group:
kafka-python 3.0 loses a rebalance that ends between two polls, and the embedded broker never forgets a dead member.
While a batch can't be written nothing more is read: the records wait in Kafka.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

logger = logging.getLogger(__name__)

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

#: What a consumer of the loop is opened with, beside its group.
CONSUMER_OPTIONS: dict[str, Any] = {
    "max_poll_records": MAX_POLL_RECORDS,
    "metadata_max_age_ms": int(PARTITIONS_EVERY_S * 1000),
    "reconnect_backoff_max_ms": 1000,
}


class Progress(Protocol):
    """What the loop tells: `trouble` is one line for people, empty if all is well; `retries` counts failed tries."""

    trouble: str
    retries: int


class Batch(Protocol):
    """What is gathered and then written; emptied by `write`."""

    def start_at(self, partition: TopicPartition) -> int | None:
        """Return the offset to start a partition at, None for the committed one."""
        ...

    def take(self, record: ConsumerRecord) -> None:
        """Take a record in; none comes twice while it is here."""
        ...

    def is_full(self) -> bool:
        """Tell whether to write before the time is up."""
        ...

    def write(self) -> None:
        """Write what was taken. If it raises it is called again, and does not repeat what went well."""
        ...

    def rest(self) -> None:
        """Do what is due now and then; called while nothing waits to be tried again."""
        ...


class _CommitError(Exception):
    """The offsets could not be committed."""


P = TypeVar("P", bound=Progress)


class BatchLoop:
    """Polls, gathers, writes and commits until told to stop.

    `on_progress` is called in this thread, about ten times a second while all goes well. What a write raises of
    `retry_on` is tried again for ever, with longer and longer pauses, unless it is an error of Kafka that no retry
    mends; everything else ends the loop.
    """

    def __init__(
        self,
        batch: Batch,
        *,
        topics: Sequence[str],
        consumer: KafkaConsumer,
        write_within_s: float,
        retry_on: tuple[type[Exception], ...],
        progress: P,
        on_progress: Callable[[P], None],
        stop: threading.Event,
    ) -> None:
        self._batch = batch
        self._topics = topics
        self._consumer = consumer
        self._write_within_s = write_within_s
        self._retry_on: tuple[type[Exception], ...] = (_CommitError, *retry_on)
        self._progress: Progress = progress
        self._on_progress: Callable[[], None] = lambda: on_progress(progress)
        self._stop = stop
        self._next_offsets: dict[TopicPartition, int] = {}
        self._since_s = 0.0
        self._uncommitted: dict[TopicPartition, int] = {}
        self._assigned: set[TopicPartition] = set()
        self._assign_at_s = 0.0
        self._empty_polls = EMPTY_POLLS - 1
        self._failures = 0
        self._retry_at_s = 0.0

    @property
    def failing(self) -> bool:
        """Tell whether a write waits to be tried again."""
        return self._failures > 0

    def run(self) -> None:
        """Loop until told to stop, then write once more what is at hand. Raises KafkaError if the broker refuses for
        good, and what `write` raises beyond `retry_on`."""
        while not self._stop.is_set():
            self._gather()
            now_s = time.monotonic()
            if self._is_due(now_s) and now_s >= self._retry_at_s:
                self._write_or_back_off()
            if not self._failures:
                self._batch.rest()
            self._report()
        # One try: what is not written now is read again after the next start.
        if not self._failures:
            self._write_or_back_off()
            self._report()

    def _gather(self) -> None:
        """Poll for records; while a write waits to be tried again, wait."""
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
            self._report(f"Kafka: {line(error)}")
            self._stop.wait(BACKOFF_FIRST_S)
            return
        self._progress.trouble = ""
        self._empty_polls = 0 if polled else self._empty_polls + 1
        if not polled:
            self._stop.wait(POLL_EVERY_S)
        for records in polled.values():
            for record in records:
                self._take(record)

    def _take(self, record: ConsumerRecord) -> None:
        partition = TopicPartition(record.topic, record.partition)
        if record.offset < self._next_offsets.get(partition, 0):
            return
        if not self._next_offsets:
            self._since_s = time.monotonic()
        self._next_offsets[partition] = record.offset + 1
        self._batch.take(record)

    def _assign(self) -> bool:
        """Take all partitions of the topics, new ones too. Returns False if a topic is missing."""
        now_s = time.monotonic()
        if now_s < self._assign_at_s:
            return True
        found: list[TopicPartition] = []
        for topic in self._topics:
            partitions = self._consumer.partitions_for_topic(topic)
            if not partitions:
                self._report(f"Kafka: there is no topic {topic}")
                return False
            found += [TopicPartition(topic, number) for number in sorted(partitions)]
        self._consumer.assign(found)
        for partition in found:
            if partition not in self._assigned and (offset := self._batch.start_at(partition)) is not None:
                self._consumer.seek(partition, offset)
        self._assigned = set(found)
        self._assign_at_s = now_s + PARTITIONS_EVERY_S
        return True

    def _poll_ms(self) -> int:
        return PATIENT_POLL_MS if self._empty_polls % EMPTY_POLLS == EMPTY_POLLS - 1 else 0

    def _is_due(self, now_s: float) -> bool:
        if not self._next_offsets:
            return bool(self._uncommitted)
        return self._batch.is_full() or now_s - self._since_s >= self._write_within_s

    def _write_or_back_off(self) -> None:
        try:
            if self._next_offsets:
                self._batch.write()
                self._uncommitted |= self._next_offsets
                self._next_offsets = {}
            self._commit()
        except self._retry_on as error:
            if isinstance(error, KafkaError) and not error.retriable:
                raise
            self._failures += 1
            self._progress.retries += 1
            delay_s = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(self._failures - 1, 10))
            self._retry_at_s = time.monotonic() + delay_s
            self._report(f"{line(error)} (failed {self._failures} times, next try in {delay_s:.1f} s)")
        else:
            self._failures = 0
            self._progress.trouble = ""

    def _commit(self) -> None:
        if self._uncommitted:
            offsets = {partition: OffsetAndMetadata(n) for partition, n in self._uncommitted.items()}
            try:
                self._consumer.commit(offsets, timeout_ms=COMMIT_TIMEOUT_MS)
            except KafkaError as error:
                raise _CommitError(f"Kafka: commit of offsets: {line(error)}") from error
        self._uncommitted = {}

    def _report(self, trouble: str | None = None) -> None:
        if trouble is not None and trouble != self._progress.trouble:
            logger.warning("%s", trouble)
            self._progress.trouble = trouble
        self._on_progress()


def line(error: BaseException) -> str:
    """Return an error in one line of at most 300 characters."""
    return " ".join((str(error) or type(error).__name__).split())[:300]
