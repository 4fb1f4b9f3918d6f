"""Sends records to the broker when they are due, again if it refuses them, and counts what it has taken."""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaTimeoutError

from ops.shop.traffic import Record

#: The counter that a kind of record adds to.
COUNTERS = {
    "search": "searches",
    "impression": "impressions",
    "click": "clicks",
    "add_to_cart": "add_to_carts",
    "purchase": "purchases",
    "item": "items",
}

logger = logging.getLogger(__name__)


class Outbox:
    """Records waiting for their time, or for the broker to take them after all.

    The counters tell what the broker has acknowledged since the start, by kind and in all (`sent`), and how
    often one had to be sent again (`resent`), which can make duplicates with the same ids.
    """

    def __init__(self, producer: KafkaProducer) -> None:
        self._producer = producer
        self._heap: list[tuple[int, int, Record]] = []
        self._arrivals = itertools.count()
        self._handed_over = 0
        # Filled by the producer's own thread.
        self._counters = Counter(dict.fromkeys((*COUNTERS.values(), "fallback", "sent", "resent"), 0))
        self._refused: deque[Record] = deque()

    def __len__(self) -> int:
        """Return how many records wait, those of the future included."""
        return len(self._heap) + len(self._refused)

    def counters(self) -> dict[str, float]:
        """Return the counts for the heartbeat."""
        return {name: float(count) for name, count in self._counters.items()}

    def put(self, records: Iterable[Record]) -> None:
        """Take records of any time."""
        for record in records:
            heapq.heappush(self._heap, (record.due_ms, next(self._arrivals), record))

    def send_due(self, now_ms: int) -> bool:
        """Hand over what is due by `now_ms`, and again what the broker refused.

        Return False if there are signs that the broker takes nothing at present, to try again more slowly.
        """
        refused = [self._refused.popleft() for _ in range(len(self._refused))]
        self.put(refused)
        while self._heap and self._heap[0][0] <= now_ms:
            record = self._heap[0][2]
            try:
                future = self._producer.send(
                    record.topic, key=record.key.encode(), value=msgspec.json.encode(record.value)
                )
            except KafkaTimeoutError as error:
                logger.warning("%d records wait: the broker takes nothing at present: %s", len(self), error)
                return False
            heapq.heappop(self._heap)
            self._handed_over += 1
            future.add_callback(self._on_taken, record)
            future.add_errback(self._on_refused, record)
        return not refused

    def deliver(self, now_ms: int, *, timeout_s: float) -> int:
        """Send what is due by `now_ms` and wait for the broker; return how many records it has not taken."""
        until_s = time.monotonic() + timeout_s
        while (left_s := until_s - time.monotonic()) > 0:
            self.send_due(now_ms)
            try:
                self._producer.flush(timeout=left_s)
            except KafkaTimeoutError as error:
                logger.warning("the broker does not answer: %s", error)
            if not self._refused and not self._unanswered():
                return 0
        return len(self._refused) + self._unanswered()

    def _unanswered(self) -> int:
        return self._handed_over - self._counters["sent"] - self._counters["resent"]

    def _on_taken(self, record: Record, _: object) -> None:
        self._counters[COUNTERS[record.kind]] += 1
        self._counters["fallback"] += record.kind == "search" and record.value["query_attributes"]["fallback"]
        self._counters["sent"] += 1

    def _on_refused(self, record: Record, error: BaseException) -> None:
        self._refused.append(record)
        self._counters["resent"] += 1
        resent = self._counters["resent"]
        # At 1, 2, 4, 8, ..., so that a broker that refuses everything does not fill the disk.
        if resent & (resent - 1) == 0:
            logger.warning("%d times by now a record is sent again: %s", resent, error)


def in_order(searches: Iterable[list[Record]]) -> Iterator[Record]:
    """Merge the records of searches, which come by time, into one stream by time; hold only what overlaps."""
    heap: list[tuple[int, int, Record]] = []
    arrivals = itertools.count()
    for records in searches:
        while heap and records and heap[0][0] <= records[0].due_ms:
            yield heapq.heappop(heap)[2]
        for record in records:
            heapq.heappush(heap, (record.due_ms, next(arrivals), record))
    while heap:
        yield heapq.heappop(heap)[2]
