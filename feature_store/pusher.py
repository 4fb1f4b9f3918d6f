"""The pusher: `engagement.windows`, `catalogue.items`, `queries.statistics`, `shoppers.history`,
`relevance.judgements` and, of the versions that `relevance.students` names, the item vectors into the feature store.

Offsets are committed when both stores have the rows, so nothing is lost; what comes again changes nothing
(`feature_store.writing`, `feature_store.engagement`). While a batch can't be written nothing more is read: the
records wait in Kafka. What can't be taken becomes a dead letter.

Judged pairs whose item has another text than they were judged on go to `relevance.pairs` again, whichever is learned
of last, the text or the judgement. They are sent before the new text is online and then remembered: a crash in
between sends them twice rather than never.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from kafka import KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from feature_store import offline
from feature_store.content import ContentChange, changes, pairs_to_judge_again
from feature_store.definitions import (
    AS_OF,
    ITEM_CONTENT,
    ITEM_VECTORS,
    PAIR_ENGAGEMENT,
    QUERY_STATISTICS,
    SHOPPER_SEGMENT,
)
from feature_store.engagement import Known, merge, pairs_of
from feature_store.intake import (
    Limits,
    RefusedError,
    catalogue_row,
    dead_letter,
    engagement_window,
    judged_pair,
    query_statistics_row,
    shopper_history_row,
    student_step,
)
from feature_store.judged import JudgedPair, JudgedPairs
from feature_store.online import OnlineStoreCorruptError, OnlineStoreError
from feature_store.rows import FeatureRow
from feature_store.version_vectors import VersionVectors
from feature_store.writing import FeatureWriter, Written
from ops.batch_loop import CONSUMER_OPTIONS, BatchLoop, line
from ops.kafka import consumer as open_consumer
from ops.kafka import producer as open_producer
from ops.settings import Settings
from streams.dead_letters import DeadLetter
from streams.records import EngagementWindow, Pair, StudentStep
from streams.rows import to_blocks
from streams.topics import (
    CATALOGUE_ITEMS,
    DEAD_LETTERS,
    ENGAGEMENT_WINDOWS,
    JUDGEMENTS,
    METRICS_ROWS,
    PAIRS,
    QUERIES_STATISTICS,
    SHOPPERS_HISTORY,
    STUDENTS,
)

logger = logging.getLogger(__name__)

SOURCES = (
    ENGAGEMENT_WINDOWS,
    CATALOGUE_ITEMS,
    QUERIES_STATISTICS,
    SHOPPERS_HISTORY,
    JUDGEMENTS,
    STUDENTS,
)
#: Records that are a row each: its view, and what takes or refuses it.
STATEMENTS: dict[str, tuple[str, Callable[[ConsumerRecord, Limits], FeatureRow]]] = {
    QUERIES_STATISTICS: (QUERY_STATISTICS, query_statistics_row),
    SHOPPERS_HISTORY: (SHOPPER_SEGMENT, shopper_history_row),
}
#: Views whose pushes a crash may have cut short between the stores. Items are not among them: their changes must be
#: told first, and their records come again.
SETTLED = (PAIR_ENGAGEMENT, QUERY_STATISTICS, SHOPPER_SEGMENT, ITEM_VECTORS)
SEND_TIMEOUT_S = 30
#: How often hours are packed and expired rows leave sqlite.
TIDY_EVERY_S = 900.0


@dataclass(slots=True)
class Progress:
    """What the pusher has done since its start, for a heartbeat. `trouble` is one line for people, empty if all is
    well.

    `late` rows are in the offline store only. `history` counts by view the rows that the offline store holds, and
    `newest_ms` is the event time of the newest one. `delay_ms` is how long the oldest window of the last push
    had been counted before it could be read.
    """

    records: int = 0
    offline_rows: int = 0
    online_rows: int = 0
    late: int = 0
    content_changes: int = 0
    judged_again: int = 0
    dead_letters: int = 0
    batches: int = 0
    retries: int = 0
    packed_files: int = 0
    delay_ms: int = 0
    history: Counter[str] = field(default_factory=Counter)
    newest_ms: dict[str, int] = field(default_factory=dict)
    trouble: str = ""

    def counters(self) -> dict[str, float]:
        """Return the numbers by name; `history_VIEW` and `newest_ms_VIEW` for each view."""
        plain = [name for name in self.__slots__ if name not in ("history", "newest_ms", "trouble")]
        return {
            **{name: float(getattr(self, name)) for name in plain},
            **{f"history_{view}": float(rows) for view, rows in sorted(self.history.items())},
            **{f"newest_ms_{view}": float(at_ms) for view, at_ms in sorted(self.newest_ms.items())},
        }


def run_pusher(
    settings: Settings,
    bootstrap: str,
    *,
    stop: threading.Event,
    on_progress: Callable[[Progress], None],
) -> None:
    """Push from the topics until `stop` is set. The store must have been applied and the topics exist.

    While a store or the broker can't be reached the pusher tries again for ever and says so in `Progress.trouble`.
    Raises KafkaError if the broker refuses for good. One pusher takes all partitions (see `ops.batch_loop`).
    """
    writer = FeatureWriter(settings)
    progress = Progress()
    for name, view in writer.definitions.views.items():
        progress.history[name], newest_us = offline.extent(view)
        if newest_us is not None:
            progress.newest_ms[name] = newest_us // 1000
    records = open_consumer(settings, bootstrap, group_id=settings.features.group, **CONSUMER_OPTIONS)
    producer = open_producer(settings, bootstrap)
    try:
        BatchLoop(
            _Batch(settings, producer=producer, writer=writer, progress=progress),
            topics=SOURCES,
            consumer=records,
            write_within_s=settings.features.flush_within_s,
            retry_on=(OnlineStoreError, OSError, KafkaError),
            progress=progress,
            on_progress=on_progress,
            stop=stop,
        ).run()
    finally:
        writer.close()
        producer.close(timeout=5)
        records.close(autocommit=False, timeout_ms=5000)


class _Batch:
    """Records that are not in the feature store yet."""

    def __init__(
        self, settings: Settings, *, producer: KafkaProducer, writer: FeatureWriter, progress: Progress
    ) -> None:
        self._features = settings.features
        self._max_future_ms = int(settings.ubi.max_future_s * 1000)
        self._windows_kept = settings.streams.engagement_windows_kept
        self._producer = producer
        self._writer = writer
        self._judged_pairs = JudgedPairs(settings)
        self._vectors = VersionVectors(settings)
        self._progress = progress
        self._settled = False
        self._tidy_at_s = time.monotonic() + TIDY_EVERY_S
        self._empty()

    def _empty(self) -> None:
        self._windows: list[EngagementWindow] = []
        self._content: list[FeatureRow] = []
        self._said: dict[str, list[FeatureRow]] = {}
        self._judged: list[JudgedPair] = []
        self._judged_offsets: dict[int, int] = {}
        self._dead_letters: list[DeadLetter] = []
        self._steps: list[StudentStep] = []
        self._rows = 0

    def start_at(self, partition: TopicPartition) -> int | None:
        """Start judgements where the file of judged pairs ends, the others at the committed offset."""
        return self._judged_pairs.next_offset(partition.partition) if partition.topic == JUDGEMENTS else None

    def take(self, record: ConsumerRecord) -> None:
        """Take a record in."""
        self._progress.records += 1
        limits = Limits(now_ms=_now_ms(), max_future_ms=self._max_future_ms)
        if record.topic == JUDGEMENTS:
            self._judged_offsets[record.partition] = record.offset + 1
        try:
            if record.topic == ENGAGEMENT_WINDOWS:
                window = engagement_window(record, limits)
                self._windows.append(window)
                self._rows += len(window.items)
            elif record.topic == CATALOGUE_ITEMS:
                self._content.append(catalogue_row(record, limits))
                self._rows += 1
            elif record.topic in STATEMENTS:
                view, row_of = STATEMENTS[record.topic]
                self._said.setdefault(view, []).append(row_of(record, limits))
                self._rows += 1
            elif record.topic == STUDENTS:
                self._steps.append(student_step(record, limits))
            else:
                self._judged.append(judged_pair(record))
                self._rows += 1
        except RefusedError as error:
            self._dead_letters.append(dead_letter(record, error, at_ms=limits.now_ms))

    def is_full(self) -> bool:
        """Tell whether there are enough rows for a push."""
        return self._rows >= self._features.flush_rows

    def write(self) -> None:
        """Write into both stores. What went well is not done again when the rest is tried again."""
        if not self._settled:
            for view in SETTLED:
                self._writer.settle(view)
            self._settled = True
        # First, so that an item that changes in the same batch finds its judgements.
        if self._judged_offsets:
            self._add_judged(self._judged, self._judged_offsets)
            self._judged, self._judged_offsets = [], {}
        if self._content:
            self._count(ITEM_CONTENT, self._push_content(self._content), self._content)
            self._content = []
        if self._windows:
            oldest_ms = min(window.updated_ms for window in self._windows)
            self._push_engagement(self._windows)
            self._progress.delay_ms = max(0, _now_ms() - oldest_ms)
            self._windows = []
        for view in list(self._said):
            self._count(view, self._writer.write(view, self._said[view]), self._said[view])
            del self._said[view]
        for table in self._vectors.of(self._steps):
            for rows in table:
                self._count(ITEM_VECTORS, self._writer.write(ITEM_VECTORS, rows), rows)
        self._steps = []
        if self._dead_letters:
            self._deliver(self._dead_letters)
            self._progress.dead_letters += len(self._dead_letters)
        self._progress.batches += 1
        self._empty()

    def rest(self) -> None:
        """Pack hours that are over and let go of what has expired, every quarter of an hour."""
        now_s = time.monotonic()
        if now_s < self._tidy_at_s:
            return
        self._tidy_at_s = now_s + TIDY_EVERY_S
        try:
            for view in self._writer.definitions.views.values():
                self._progress.packed_files += offline.pack(view, now_s=time.time())
            self._writer.expire()
        except (OnlineStoreError, OSError) as error:
            logger.warning("tidying is put off: %s", line(error))

    def _add_judged(self, pairs: Sequence[JudgedPair], next_offsets: dict[int, int]) -> None:
        self._judged_pairs.add(pairs)
        keys = [(item_id,) for item_id in dict.fromkeys(pair.item_id for pair in pairs)]
        stored = self._writer.read(ITEM_CONTENT, keys, ("text", "content_hash", "listed", AS_OF))
        judged_on = {pair.item_id: pair.content_hash for pair in pairs}
        self._judge_again(
            ContentChange(
                item_id=key[0],
                item_text=row["text"].string_val,
                before=judged_on[key[0]],
                content_hash=row["content_hash"].string_val,
                changed_ms=row[AS_OF].int64_val // 1000,
            )
            for key, row in stored.items()
            if row["listed"].bool_val
        )
        # Last, so that a crash before it sends what follows from these judgements after all.
        self._judged_pairs.filled_to(next_offsets)

    def _judge_again(self, changed: Iterable[ContentChange]) -> None:
        now_ms = _now_ms()
        pairs = list(
            pairs_to_judge_again(
                list(changed),
                self._judged_pairs.obsolete,
                now_ms=now_ms,
                deadline_ms=now_ms + int(self._features.judge_again_within_s * 1000),
            )
        )
        if pairs:
            send_pairs(self._producer, pairs)
            self._judged_pairs.add(JudgedPair(pair.query, pair.item_id, pair.content_hash) for pair in pairs)
            self._progress.judged_again += len(pairs)

    def _push_content(self, rows: Sequence[FeatureRow]) -> Written:
        keys = list({row.key: None for row in rows})
        stored = self._writer.read(ITEM_CONTENT, keys, ("content_hash", AS_OF))
        known = {
            key[0]: (row["content_hash"].string_val, row[AS_OF].int64_val) for key, row in stored.items()
        }

        def report(newer: Sequence[FeatureRow]) -> None:
            changed = changes(newer, known)
            self._judge_again(changed)
            self._progress.content_changes += len(changed)

        return self._writer.write(ITEM_CONTENT, rows, before_online=report)

    def _push_engagement(self, windows: Sequence[EngagementWindow]) -> None:
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
        self._count(PAIR_ENGAGEMENT, self._writer.write(PAIR_ENGAGEMENT, rows), rows)

    def _count(self, view: str, written: Written, rows: Sequence[FeatureRow]) -> None:
        self._progress.offline_rows += written.offline
        self._progress.online_rows += written.online
        self._progress.late += written.late
        self._progress.history[view] += written.offline
        newest_ms = max((row.event_us // 1000 for row in rows), default=0)
        self._progress.newest_ms[view] = max(newest_ms, self._progress.newest_ms.get(view, 0))

    def _deliver(self, letters: Sequence[DeadLetter]) -> None:
        sent = [
            self._producer.send(DEAD_LETTERS, key=letter.key, value=letter.value, headers=letter.headers())
            for letter in letters
        ]
        for block in to_blocks("dead_letters", [letter.row() for letter in letters]):
            sent.append(self._producer.send(METRICS_ROWS, value=block.lines, headers=block.headers()))
        _wait_for(self._producer, sent)


def send_pairs(producer: KafkaProducer, pairs: Iterable[Pair]) -> int:
    """Send pairs to `relevance.pairs`, wait until the broker has them, and return how many there were. Raises
    KafkaError."""
    sent = [
        producer.send(PAIRS, key=pair.query.encode("utf-8", "surrogatepass"), value=msgspec.json.encode(pair))
        for pair in pairs
    ]
    _wait_for(producer, sent)
    return len(sent)


def _wait_for(producer: KafkaProducer, sent: Sequence[Any]) -> None:
    producer.flush(timeout=SEND_TIMEOUT_S)
    for future in sent:
        future.get(timeout=SEND_TIMEOUT_S)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
