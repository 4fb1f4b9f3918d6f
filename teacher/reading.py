"""The records of one worker's partitions of `relevance.pairs`. Called in one thread at a time."""

from __future__ import annotations

import time

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.structs import OffsetAndMetadata

from ops.batch_loop import COMMIT_TIMEOUT_MS, EMPTY_POLLS, PARTITIONS_EVERY_S, PATIENT_POLL_MS
from streams.topics import PAIRS


class PairsReader:
    """Reads every n-th partition, from the committed offsets on.

    `unread` counts the records that the broker has beyond those read, None before its first answers; `trouble` is one
    line for people, empty if all is well.
    """

    def __init__(self, records: KafkaConsumer, *, number: int, workers: int) -> None:
        """Take a consumer that is not assigned yet; `number` counts from 1."""
        self._records = records
        self._number = number
        self._workers = workers
        self._assigned: set[TopicPartition] = set()
        self._assign_at_s = 0.0
        self._empty_polls = EMPTY_POLLS - 1
        self.unread: int | None = None
        self.trouble = ""

    def poll(self) -> list[ConsumerRecord]:
        """Return what is next, often nothing. Raises KafkaError."""
        now_s = time.monotonic()
        if now_s >= self._assign_at_s:
            self._assign(now_s)
        if not self._assigned:
            return []
        # Why polls don't wait, but for one in so many: see `ops.batch_loop`.
        patient = self._empty_polls % EMPTY_POLLS == EMPTY_POLLS - 1
        polled = self._records.poll(timeout_ms=PATIENT_POLL_MS if patient else 0)
        self._empty_polls = 0 if polled else self._empty_polls + 1
        self.unread = self._count_unread()
        return [record for records in polled.values() for record in records]

    def commit(self, offsets: dict[TopicPartition, int]) -> None:
        """Commit the next offsets of partitions. Raises KafkaError."""
        named = {partition: OffsetAndMetadata(offset) for partition, offset in offsets.items()}
        self._records.commit(named, timeout_ms=COMMIT_TIMEOUT_MS)

    def _assign(self, now_s: float) -> None:
        """Take the partitions that are this worker's, new ones too."""
        partitions = self._records.partitions_for_topic(PAIRS)
        if not partitions:
            self.trouble = f"Kafka: there is no topic {PAIRS}"
            return
        workers = self._workers
        mine = {
            TopicPartition(PAIRS, number) for number in partitions if number % workers == self._number - 1
        }
        if mine - self._assigned:
            self._records.assign(sorted(mine))
        self._assigned = mine
        self._assign_at_s = now_s + PARTITIONS_EVERY_S
        has = f"{PAIRS} has {len(partitions)} partitions"
        self.trouble = "" if mine else f"worker {self._number} of {workers} has nothing to do: {has}"

    def _count_unread(self) -> int | None:
        total = 0
        for partition in self._assigned:
            end = self._records.highwater(partition)
            read_to = None if end is None else self._records.position(partition, timeout_ms=PATIENT_POLL_MS)
            if read_to is None:
                return None
            total += max(0, end - read_to)
        return total
