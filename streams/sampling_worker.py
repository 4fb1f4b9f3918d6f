"""The sampler between its topics: engagement windows, the catalogue, judgements and pairs in, pairs to judge out.

One process for the whole stream: the budget, the line of candidates and the cap per query are of all queries. What
has to hold over a restart lies in `streams.sampling_memory`; candidates do not, they come again when they are shown.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from kafka import KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from ops.batch_loop import CONSUMER_OPTIONS, BatchLoop, line
from ops.clickhouse.publishing import SEND_TIMEOUT_S, publish, publish_dead_letters
from ops.group_lag import group_lag
from ops.kafka import connection
from ops.kafka import consumer as open_consumer
from ops.kafka import producer as open_producer
from ops.settings import Settings
from ops.stack import broker_probe
from streams.dead_letters import DeadLetter, letter_of
from streams.sampler import Sampler
from streams.sampling_intake import RefusedError, fact
from streams.sampling_memory import FILE_NAME, Drawn, SamplingMemory
from streams.topics import CATALOGUE_ITEMS, ENGAGEMENT_WINDOWS, JUDGEMENTS, PAIRS

logger = logging.getLogger(__name__)

#: Texts and what was asked before the windows of the same batch.
SOURCES = (CATALOGUE_ITEMS, JUDGEMENTS, PAIRS, ENGAGEMENT_WINDOWS)
WRITE_WITHIN_S = 1.0
FULL_AT = 5_000
DRAW_EVERY_S = 1.0
LAG_EVERY_S = 2.0
REQUEST_TIMEOUT_MS = 5_000


@dataclass(slots=True)
class Progress:
    """What the sampler has done since its start, for a heartbeat. `lag` is how many pairs wait for the teacher, None
    while unknown; `waits_for` says why no more are sent, `trouble` what is wrong, both for people."""

    records: int = 0
    sent: int = 0
    candidates: int = 0
    lag: int | None = None
    judgement_tokens: float = 0.0
    dead_letters: int = 0
    retries: int = 0
    counted: dict[str, float] = field(default_factory=dict)
    waits_for: str = ""
    trouble: str = ""

    def counters(self) -> dict[str, float]:
        """Return the numbers by name; `lag` only where it is known."""
        plain = ("records", "sent", "candidates", "judgement_tokens", "dead_letters", "retries")
        lag = {} if self.lag is None else {"lag": float(self.lag)}
        return {name: float(getattr(self, name)) for name in plain} | lag | self.counted


def run_sampler(
    settings: Settings,
    bootstrap: str,
    *,
    stop: threading.Event,
    on_progress: Callable[[Progress], None],
) -> None:
    """Sample until `stop` is set. The topics must exist.

    While the broker can't be reached it is tried again for ever, as `Progress.trouble` says. Raises KafkaError if the
    broker refuses for good. A second sampler would spend the budget a second time.
    """
    memory = SamplingMemory(settings.run_dir / "sampling" / FILE_NAME)
    records = open_consumer(settings, bootstrap, group_id=settings.sampling.group, **CONSUMER_OPTIONS)
    producer = open_producer(settings, bootstrap)
    progress = Progress()
    lag = _Lag(settings, bootstrap)
    try:
        BatchLoop(
            _Batch(settings, producer=producer, memory=memory, lag=lag, progress=progress),
            topics=SOURCES,
            consumer=records,
            write_within_s=WRITE_WITHIN_S,
            retry_on=(OSError, KafkaError),
            progress=progress,
            on_progress=on_progress,
            stop=stop,
        ).run()
    finally:
        lag.close()
        producer.close(timeout=5)
        records.close(autocommit=False, timeout_ms=5000)
        memory.close()


class _Batch:
    """Records whose facts are not in the sampler yet."""

    def __init__(
        self,
        settings: Settings,
        *,
        producer: KafkaProducer,
        memory: SamplingMemory,
        lag: _Lag,
        progress: Progress,
    ) -> None:
        self._settings = settings.sampling
        self._max_future_ms = int(settings.ubi.max_future_s * 1000)
        self._producer = producer
        self._memory = memory
        self._lag = lag
        self._progress = progress
        self._sampler = Sampler(settings.sampling, memory, now_ms=_now_ms())
        self._draw_at_s = 0.0
        self._empty()

    def _empty(self) -> None:
        self._facts: dict[str, list[Callable[[Sampler], None]]] = {topic: [] for topic in SOURCES}
        self._offsets: dict[tuple[str, int], int] = {}
        self._dead_letters: list[DeadLetter] = []
        self._taken = 0

    def start_at(self, partition: TopicPartition) -> int | None:
        """Start where the memory ends; windows at the committed offset, as what they say is said again."""
        if partition.topic == ENGAGEMENT_WINDOWS:
            return None
        return self._memory.next_offset(partition.topic, partition.partition)

    def take(self, record: ConsumerRecord) -> None:
        """Take a record in."""
        self._progress.records += 1
        self._taken += 1
        self._offsets[record.topic, record.partition] = record.offset + 1
        now_ms = _now_ms()
        try:
            self._facts[record.topic].append(fact(record, latest_ms=now_ms + self._max_future_ms))
        except RefusedError as error:
            if record.topic == PAIRS:
                # The teacher's worker reads it too and makes the dead letter.
                return
            letter = letter_of(record, reason=error.reason, detail=str(error), at_ms=now_ms)
            self._dead_letters.append(letter)

    def is_full(self) -> bool:
        """Tell whether there is enough for a transaction."""
        return self._taken >= FULL_AT

    def write(self) -> None:
        """Tell the sampler, in one transaction of its memory."""
        if self._dead_letters:
            publish_dead_letters(self._producer, self._dead_letters)
            self._progress.dead_letters += len(self._dead_letters)
            self._dead_letters = []
        with self._memory.transaction():
            for facts in self._facts.values():
                for tell in facts:
                    tell(self._sampler)
            self._memory.known_to(self._offsets)
            self._memory.store_ledger(self._sampler.ledger())
        self._empty()

    def rest(self) -> None:
        """Draw and send what the budget and the teacher have room for, once a second."""
        now_s = time.monotonic()
        if now_s < self._draw_at_s:
            return
        self._draw_at_s = now_s + DRAW_EVERY_S
        try:
            # First what an earlier process, or an earlier try, has left.
            self._send()
            lag = self._lag.records(now_s)
            self._progress.lag = lag
            if lag is None:
                self._sampler.waits_for = f"an answer of the broker ({self._lag.trouble})"
            elif len(self._sampler):
                room = self._settings.max_waiting_pairs - lag - self._lag.sent_since
                self._sampler.draw(now_ms=_now_ms(), room=max(0, room))
                self._send()
        except (KafkaError, OSError) as error:
            logger.warning("sending is put off: %s", line(error))
            self._sampler.waits_for = line(error)
        progress, sampler = self._progress, self._sampler
        progress.candidates = len(sampler)
        progress.judgement_tokens = sampler.cost.tokens
        progress.counted = {name: float(count) for name, count in sampler.counters.items()}
        progress.waits_for = sampler.waits_for

    def _send(self) -> None:
        waiting = self._memory.waiting()
        if not waiting:
            return
        drawn = [each for _, each in waiting]
        sent = [
            self._producer.send(
                PAIRS,
                key=each.pair.query.encode("utf-8", "surrogatepass"),
                value=msgspec.json.encode(each.pair),
            )
            for each in drawn
        ]
        publish(self._producer, "sampled_pairs", [sampled_row(each) for each in drawn])
        for future in sent:
            future.get(timeout=SEND_TIMEOUT_S)
        with self._memory.transaction():
            self._memory.sent(number for number, _ in waiting)
        self._lag.sent_since += len(drawn)
        self._progress.sent += len(drawn)


def sampled_row(drawn: Drawn) -> dict[str, Any]:
    """Return the row for `sampled_pairs`. A pair that is sent again is the same row."""
    pair = drawn.pair
    return {
        "query": pair.query,
        "item_id": pair.item_id,
        "content_hash": pair.content_hash,
        "item_text": pair.item_text,
        "traffic_class": pair.traffic_class,
        "uniform": bool(pair.reasons["uniform"]),
        "priority": pair.reasons["priority"],
        "reasons": pair.reasons,
        "tokens": drawn.tokens,
        "deadline": pair.deadline_ms,
        "event_time": pair.sampled_ms,
        "version": 1,
    }


class _Lag:
    """How many pairs the teacher's group has before it, asked every few seconds. `sent_since` counts those that were
    sent after the last answer."""

    def __init__(self, settings: Settings, bootstrap: str) -> None:
        self._group = settings.teacher_worker.group
        self._probe = partial(broker_probe.failure, settings, bootstrap, timeout_s=2.0)
        self._open = partial(
            KafkaAdminClient, **connection(settings, bootstrap), request_timeout_ms=REQUEST_TIMEOUT_MS
        )
        self._admin: KafkaAdminClient | None = None
        self._records: int | None = None
        self._ask_at_s = 0.0
        self.sent_since = 0
        self.trouble = "not asked yet"

    def records(self, now_s: float) -> int | None:
        """Return the last answer, None if there is none."""
        if now_s >= self._ask_at_s:
            self._ask_at_s = now_s + LAG_EVERY_S
            try:
                self._records = self._ask()
                self.sent_since = 0
                self.trouble = "" if self._records is not None else f"there is no topic {PAIRS}"
            except (KafkaError, OSError) as error:
                self._records, self.trouble = None, line(error)
                self.close()
        return self._records

    def close(self) -> None:
        """Close the connection."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def _ask(self) -> int | None:
        if self._admin is None:
            # A client made while nobody listens would keep its thread, so the broker is probed first.
            if reason := self._probe():
                raise OSError(reason)
            self._admin = self._open()
        return group_lag(self._admin, self._group, (PAIRS,))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
