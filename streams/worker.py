"""The streams worker: a Faust process between `ubi.*` and the metrics, engagement and dead-letter topics.

At least once: rows are acknowledged by the broker before the state they came from is stored, and the state
before the events' offsets are committed. A replay gives the same rows again, which ClickHouse replaces.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any
from zlib import crc32

import msgspec
import uvloop
from kafka.admin import KafkaAdminClient

from ops import heartbeat
from ops.kafka import connection, replication_factor
from ops.settings import Settings
from streams import topics
from streams.attribution import Windows
from streams.batches import Batches
from streams.continuity import Continuity
from streams.dead_letters import resent_count
from streams.engagement_agent import EngagementAgent
from streams.faust_app import bytes_table, create_app, partitions_of, raw_topic
from streams.frequency import QueryFrequency
from streams.ingestion import Outcome, RawRecord, ingest
from streams.pages import OpenPages, partition_of
from streams.records import EngagementDelta
from streams.rows import to_blocks
from streams.ubi import Dialect

logger = logging.getLogger(__name__)

SOURCES = (topics.UBI_QUERIES, topics.UBI_EVENTS)
SNAPSHOT_EVERY_S = 15.0
HEARTBEAT_EVERY_S = 1.0
LOOK_EVERY_S = 0.5
STOP_WITHIN_S = 2.0


class StreamsWorker:
    """Holds the state of one worker and its two agents. `number` counts from 1."""

    def __init__(self, settings: Settings, bootstrap: str, *, number: int, replicas: int) -> None:
        self.settings = settings
        self.number = number
        self.counters: Counter[str] = Counter()
        self.app = create_app(settings, bootstrap, worker=number, replicas=replicas)
        self._partitions = settings.streams.partitions
        self._rows = raw_topic(self.app, topics.METRICS_ROWS)
        self._deltas = raw_topic(self.app, topics.ENGAGEMENT_DELTAS)
        self._dead_letters = raw_topic(self.app, topics.DEAD_LETTERS)
        self._page_table = bytes_table(self.app, "pages", settings)
        self._frequency_table = bytes_table(self.app, "frequency", settings)
        self._progress_table = bytes_table(self.app, "progress", settings)
        self._continuity = Continuity()
        self._frequencies: dict[int, QueryFrequency] = {}
        self._pages = self._open_pages()
        self._recover = True
        streams = settings.streams
        self._windows = Windows(
            click_ms=int(streams.click_window_s * 1000),
            conversion_ms=int(streams.conversion_window_s * 1000),
            skew_ms=int(streams.clock_skew_s * 1000),
            engagement_s=streams.engagement_window_s,
        )
        self._dialect = msgspec.convert(settings.ubi.model_dump(), Dialect)
        self._batches = Batches(self._process, size=streams.batch_events, within_s=streams.batch_within_s)
        self._engagement = EngagementAgent(self.app, settings, self.counters)
        self._attach()

    def _open_pages(self) -> OpenPages:
        streams = self.settings.streams
        return OpenPages(
            self._page_table.data,
            conversion_ms=int(streams.conversion_window_s * 1000),
            lateness_ms=int(streams.allowed_lateness_s * 1000),
            max_pages=streams.max_open_queries,
        )

    def _attach(self) -> None:
        source = raw_topic(self.app, *SOURCES)

        async def attribute(stream: Any) -> None:
            async for event in stream.noack().events():
                await self._batches.add(event)

        async def on_rebalance(*_: Any, **__: Any) -> None:
            self._batches.drop()
            self._recover = True

        self.app.agent(source, name="attribution")(attribute)
        self.app.on_partitions_revoked.connect(on_rebalance, weak=False)
        self.app.on_partitions_assigned.connect(on_rebalance, weak=False)
        self.app.task(self._batches.flush_regularly)
        self.app.timer(interval=SNAPSHOT_EVERY_S)(self._housekeeping)
        self.app.timer(interval=HEARTBEAT_EVERY_S)(self._beat)

    async def _process(self, events: Sequence[Any]) -> Sequence[Any]:
        if self._recover:
            self._take_over_partitions()
        now_ms = time.time_ns() // 1_000_000
        by_partition: dict[int, list[RawRecord]] = defaultdict(list)
        events = await self._without_gaps(events)
        for event in events:
            message = event.message
            by_partition[message.partition].append(
                RawRecord(
                    message.topic,
                    message.partition,
                    message.offset,
                    message.key,
                    message.value,
                    resent_count(message.headers.items()) if message.headers else 0,
                )
            )
        for partition, records in by_partition.items():
            outcome = ingest(
                records,
                pages=self._pages,
                frequency=self._frequency_of(partition),
                dialect=self._dialect,
                windows=self._windows,
                now_ms=now_ms,
            )
            await self._ship(partition, outcome)
            for key, page in outcome.changed.items():
                self._page_table.send_changelog(partition, key, page)
            self._store_progress(partition)
        self.counters["events"] += len(events)
        return events

    async def _without_gaps(self, events: Sequence[Any]) -> list[Any]:
        """Return the events that follow on what was processed; go back to what was skipped before the others."""
        following = []
        gone_back: set[Any] = set()
        for event in events:
            tp = event.message.tp
            if tp in gone_back:
                continue
            back_to = self._continuity.missing_before(tp.topic, tp.partition, event.message.offset)
            if back_to is None:
                following.append(event)
                continue
            logger.warning("%s: offset %d came before %d; going back", tp, event.message.offset, back_to)
            self.counters["gaps"] += 1
            gone_back.add(tp)
            await self.app.consumer.seek(tp, back_to)
        return following

    def _store_progress(self, partition: int) -> None:
        for topic in SOURCES:
            offset = self._continuity.next_of(topic, partition)
            if offset is not None:
                key, value = _progress_key(topic, partition), b"%d" % offset
                self._progress_table.data[key] = value
                self._progress_table.send_changelog(partition, key, value)

    async def _ship(self, partition: int, outcome: Outcome) -> None:
        sent = []
        rows: dict[str, list[Any]] = dict(outcome.emitted.rows)
        if outcome.dead_letters:
            rows["dead_letters"] = [letter.row() for letter in outcome.dead_letters]
        for table, of_table in rows.items():
            self.counters[f"{table}_rows"] += len(of_table)
            for block in to_blocks(table, of_table):
                sent.append(
                    await self._rows.send(value=block.lines, headers=block.headers(), partition=partition)
                )
        for letter in outcome.dead_letters:
            sent.append(
                await self._dead_letters.send(key=letter.key, value=letter.value, headers=letter.headers())
            )
        for target, deltas in self._by_query(outcome.emitted.deltas).items():
            sent.append(await self._deltas.send(value=msgspec.json.encode(deltas), partition=target))
        self.counters["not_kept"] += outcome.emitted.overflowed
        await asyncio.gather(*sent)

    def _by_query(self, deltas: Sequence[EngagementDelta]) -> dict[int, list[EngagementDelta]]:
        by_target: dict[int, list[EngagementDelta]] = defaultdict(list)
        for delta in deltas:
            by_target[crc32(delta.query.encode("utf-8", "surrogatepass")) % self._partitions].append(delta)
        return by_target

    def _frequency_of(self, partition: int) -> QueryFrequency:
        frequency = self._frequencies.get(partition)
        if frequency is None:
            streams = self.settings.streams
            frequency = self._frequencies[partition] = QueryFrequency(
                head_share=streams.head_share,
                torso_share=streams.torso_share,
                window_s=streams.frequency_window_s,
                now_s=time.time(),
            )
            stored = self._frequency_table.data.get(b"%d" % partition)
            if stored:
                frequency.restore(stored)
        return frequency

    def _take_over_partitions(self) -> None:
        self._recover = False
        mine = partitions_of(self.app, topics.UBI_EVENTS)
        self._frequencies.clear()
        self._pages.rebuild(mine)
        self._continuity.expect(
            (topic, partition, int(stored))
            for topic in SOURCES
            for partition in mine
            if (stored := self._progress_table.data.get(_progress_key(topic, partition)))
        )
        logger.info("partitions %s taken over with %d open pages", sorted(mine), len(self._pages))

    async def _housekeeping(self) -> None:
        if self._recover:
            return
        for key in self._pages.let_go(now_ms=time.time_ns() // 1_000_000):
            self._page_table.send_changelog(partition_of(key), key, None, value_serializer="raw")
            self.counters["pages_let_go"] += 1
        for partition, frequency in self._frequencies.items():
            key, snapshot = b"%d" % partition, frequency.snapshot()
            self._frequency_table.data[key] = snapshot
            self._frequency_table.send_changelog(partition, key, snapshot)

    async def finish(self) -> None:
        """Finish the batch at hand and commit what is done, so that a restart has little to repeat."""
        await self._batches.flush()
        await self.app.consumer.commit()

    async def _beat(self) -> None:
        # Faust answers this timer only once the first assignment has been recovered.
        assigned = len(self.app.consumer.assignment())
        heartbeat.beat(
            self.settings.run_dir,
            heartbeat.Heartbeat(
                part=f"streams-{self.number}",
                pid=os.getpid(),
                at_s=time.time(),
                state="ready" if assigned else "starting",
                detail=f"{assigned} partitions, {len(self._pages)} open pages",
                counters={name: float(count) for name, count in self.counters.items()},
            ),
        )


def _progress_key(topic: str, partition: int) -> bytes:
    return f"{topic}:{partition}".encode()


def run(settings: Settings, bootstrap: str, *, worker: int) -> None:
    """Run streams worker number `worker` (from 1) until SIGTERM or SIGINT. Exits 1 if Faust gives up."""
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    # It warns whenever changelog records wait to be sent, which is what its buffer is for.
    logging.getLogger("faust.transport.producer").setLevel(logging.ERROR)
    with closing(KafkaAdminClient(**connection(settings, bootstrap))) as admin:
        replicas = replication_factor(admin)
    # A policy, since Faust's consumer makes a loop of its own in a thread.
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    with asyncio.Runner() as runner:
        status = runner.run(_run_until_told(settings, bootstrap, number=worker, replicas=replicas))
        # Faust may take for ever to stop. What is acknowledged is done and what is not comes again, so leave.
        logging.shutdown()
        os._exit(status)


async def _run_until_told(settings: Settings, bootstrap: str, *, number: int, replicas: int) -> int:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, told.set)
    worker = StreamsWorker(settings, bootstrap, number=number, replicas=replicas)
    starting = asyncio.create_task(worker.app.start())
    while not told.is_set() and not worker.app.should_stop:
        if starting.done():
            starting.result()
        with suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), LOOK_EVERY_S)
    if not told.is_set():
        logger.error("Faust gave up: %r", worker.app.crash_reason)
        return 1
    if starting.done():
        with suppress(TimeoutError):
            await asyncio.wait_for(worker.finish(), STOP_WITHIN_S)
    return 0
