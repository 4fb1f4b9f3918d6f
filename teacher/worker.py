"""The teacher's worker: pairs from `relevance.pairs` judged, judgements to `relevance.judgements`.

Worker k of n takes every n-th partition and keeps its offsets under the group, without being a member of it:
kafka-python 3.0 loses a rebalance that ends between two polls, and the embedded broker never forgets a dead member.
All pairs of a query lie in one partition, so no two workers judge the same pair.

An offset is committed when the judgement is on its topic. What a kill leaves uncommitted is read again, and what was
judged by then comes out of the cache as it was: nothing is lost, nothing judged twice.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Final, TypeVar

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from ops.batch_loop import (
    BACKOFF_FIRST_S,
    BACKOFF_MOST_S,
    CONSUMER_OPTIONS,
    POLL_EVERY_S,
    line,
)
from ops.endpoints import NotRunningError
from ops.kafka import consumer as open_consumer
from ops.kafka import producer as open_producer
from ops.settings import Settings
from streams.records import Judgement, Pair
from teacher.cache import CacheError, Identity
from teacher.client import TeacherError
from teacher.delivery import Judged, Unjudgeable, deliver
from teacher.intake import RefusedPairError, typed
from teacher.judging import Judge, Result, open_judge
from teacher.offsets import OpenOffsets
from teacher.parsing import Refusal, RefusalReason
from teacher.probe import ProbeError
from teacher.progress import Progress
from teacher.reading import PairsReader

logger = logging.getLogger(__name__)

COMMIT_EVERY_S: Final = 1.0
REPORT_EVERY_S: Final = 0.25
#: Who judges is part of a judgement's identity, and a server may have been started with another model.
ASK_WHO_EVERY_S: Final = 300.0
#: After SIGTERM: what is judged by now is sent and committed within this.
STOP_WITHIN_S: Final = 3.0
#: A pair that has had no answer so often, while the teacher answered others, becomes a dead letter.
STRIKES: Final = 3
#: Another answer to the same question would be no better.
FINAL: Final = frozenset({RefusalReason.UNFIT_TEXT, RefusalReason.REJECTED})

OpenJudge = Callable[[], AbstractAsyncContextManager[Judge]]
T = TypeVar("T")
#: What keeps any pair from being judged for now: it is waited out, and no pair pays for it.
WAITED_OUT: Final = (TeacherError, CacheError, ProbeError, NotRunningError)


def run_worker(
    settings: Settings,
    bootstrap: str,
    *,
    number: int,
    stop: threading.Event,
    on_progress: Callable[[Progress], None],
) -> None:
    """Judge until `stop` is set, as worker `number` (from 1) of `settings.teacher_worker.workers`.

    The topics must exist. A teacher or broker that is away is waited for, as `Progress.trouble` says. Raises
    KafkaError if the broker refuses for good, ValueError for a number beyond the workers.
    """
    workers = settings.teacher_worker.workers
    if not 1 <= number <= workers:
        raise ValueError(f"expected a worker from 1 to {workers} (teacher_worker.workers), got {number}")
    group = settings.teacher_worker.group
    records = open_consumer(settings, bootstrap, group_id=group, **CONSUMER_OPTIONS)
    producer = open_producer(settings, bootstrap)
    try:
        worker = Worker(
            settings, number=number, records=records, producer=producer, judge=partial(open_judge, settings)
        )
        asyncio.run(worker.run(stop, on_progress))
    finally:
        producer.close(timeout=5)
        records.close(autocommit=False, timeout_ms=5000)


class Worker:
    """One worker. Pairs wait freshest first; so many are judged at once as the teacher may have requests."""

    def __init__(
        self,
        settings: Settings,
        *,
        number: int,
        records: KafkaConsumer,
        producer: KafkaProducer,
        judge: OpenJudge,
    ) -> None:
        self._settings = settings.teacher_worker
        self._concurrency = settings.teacher.concurrency
        self._reader = PairsReader(records, number=number, workers=settings.teacher_worker.workers)
        self._producer = producer
        self._open_judge = judge
        self.progress = Progress()
        self._offsets = OpenOffsets[TopicPartition]()
        self._waiting: list[tuple[int, int, ConsumerRecord, Pair]] = []
        self._serial = 0
        self._tasks: dict[asyncio.Task[Result], tuple[Pair, Identity, list[ConsumerRecord]]] = {}
        self._judged: list[Judged] = []
        self._unjudgeable: list[Unjudgeable] = []
        self._away = ""
        #: Questions and answers since the teacher was last found to be there.
        self._asked = self._answered = 0
        self._strikes: Counter[Identity] = Counter()
        self._commit_at_s = 0.0
        self._failures = 0
        # kafka-python's clients are used from one thread at a time.
        self._kafka = ThreadPoolExecutor(1, thread_name_prefix="kafka")

    async def run(self, stop: threading.Event, on_progress: Callable[[Progress], None]) -> None:
        """Work until told to stop, then send what is judged. Raises as `run_worker`."""
        work = asyncio.create_task(self._work())
        try:
            while not stop.is_set() and not work.done():
                on_progress(self.progress)
                await asyncio.sleep(REPORT_EVERY_S)
            if work.done():
                work.result()
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
            for task in self._tasks:
                task.cancel()
            with suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(STOP_WITHIN_S):
                    await self._deliver()
                    await self._commit()
            self._kafka.shutdown(wait=False)

    async def _work(self) -> None:
        failures = 0
        while True:
            try:
                async with self._open_judge() as judge:
                    self._away, self.progress.waits_for = "", ""
                    self._answered = self._asked = 0
                    await self._judge_until_away(judge)
                if not self._away:
                    continue
            except WAITED_OUT as error:
                self._away = line(error)
            failures = 1 if self._answered else failures + 1
            self._answered = 0
            delay_s = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(failures, 10))
            if self._away != self.progress.waits_for:
                logger.warning("waits for the teacher: %s", self._away)
            self.progress.waits_for = self._away
            self.progress.away += 1
            until_s = time.monotonic() + delay_s
            while time.monotonic() < until_s:
                # Pairs whose time runs out meanwhile are let go, garbage becomes dead letters.
                await self._turn(None)

    async def _judge_until_away(self, judge: Judge) -> None:
        """Judge until the teacher is away, or is to be asked anew who it is, and every open request has ended."""
        until_s = time.monotonic() + ASK_WHO_EVERY_S
        while self._tasks or not (self._away or time.monotonic() >= until_s):
            await self._turn(judge if time.monotonic() < until_s else None)

    async def _turn(self, judge: Judge | None) -> None:
        """Read, start, gather, send and commit once."""
        try:
            await self._fetch()
            if judge is not None and not self._away:
                self._start(judge)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=POLL_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                self._gather()
            else:
                await asyncio.sleep(POLL_EVERY_S / 4 if self._waiting and judge else POLL_EVERY_S)
            if judge is None:
                self._let_go_expired()
            await self._deliver()
            if time.monotonic() >= self._commit_at_s:
                self._commit_at_s = time.monotonic() + COMMIT_EVERY_S
                await self._commit()
        except KafkaError as error:
            if not error.retriable:
                raise
            self._failures += 1
            self.progress.retries += 1
            self.progress.trouble = f"Kafka: {line(error)}"
            logger.warning("%s", self.progress.trouble)
            await asyncio.sleep(min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(self._failures, 10)))
        else:
            self._failures = 0
            self.progress.trouble = self._reader.trouble
        self.progress.open = len(self._tasks)
        self.progress.waiting = len(self._waiting)
        unread = self._reader.unread
        self.progress.lag = None if unread is None else unread + len(self._offsets)

    async def _fetch(self) -> None:
        if len(self._offsets) >= self._settings.open_pairs:
            return
        for record in await self._in_thread(self._reader.poll):
            self._take(record)

    def _take(self, record: ConsumerRecord) -> None:
        if not self._offsets.take(TopicPartition(record.topic, record.partition), record.offset):
            return
        self.progress.records += 1
        try:
            pair = typed(record.value)
        except RefusedPairError as error:
            self._unjudgeable.append(Unjudgeable(record, error.reason, str(error)))
            return
        self._wait_in_line(record, pair)

    def _wait_in_line(self, record: ConsumerRecord, pair: Pair) -> None:
        self._serial += 1
        heapq.heappush(self._waiting, (-pair.sampled_ms, self._serial, record, pair))

    def _start(self, judge: Judge) -> None:
        """Ask for the freshest pairs; one that is being judged already waits for that judgement."""
        asked = {identity: records for _, identity, records in self._tasks.values()}
        while self._waiting and len(self._tasks) < self._concurrency:
            *_, record, pair = heapq.heappop(self._waiting)
            if self._expired(record, pair):
                continue
            identity = judge.identity(pair.query, pair.item_id, pair.item_text)
            if identity in asked:
                asked[identity].append(record)
                continue
            asked[identity] = [record]
            self._asked += 1
            task = asyncio.create_task(self._ask(judge, pair))
            self._tasks[task] = (pair, identity, asked[identity])

    async def _ask(self, judge: Judge, pair: Pair) -> Result:
        """Return a judgement, or the last refusal."""
        began_ms = _now_ms()
        for _ in range(self._settings.attempts):
            result = await judge.judge(pair.query, pair.item_id, pair.item_text)
            known = isinstance(result, Judgement) and result.judged_ms < began_ms
            self.progress.asked(result, known=known)
            if not isinstance(result, Refusal) or result.reason in FINAL:
                break
            if result.reason is RefusalReason.UNAVAILABLE:
                break
        return result

    def _gather(self) -> None:
        for task in [task for task in self._tasks if task.done()]:
            pair, identity, records = self._tasks.pop(task)
            try:
                result = task.result()
            except WAITED_OUT as error:
                self._put_back(pair, records, why=line(error))
                continue
            if isinstance(result, Refusal) and result.reason is RefusalReason.UNAVAILABLE:
                if not self._fails_alone(identity):
                    self._put_back(pair, records, why=result.detail)
                    continue
            else:
                self._answered += 1
            self._judged.append(Judged(pair, identity, _with_origin(result, pair), tuple(records)))

    def _fails_alone(self, identity: Identity) -> bool:
        """Tell whether a pair has had no answer again and again while the teacher answered others, be it the probe's
        questions alone: then it is the pair's fault."""
        if self._answered or self._asked == 1:
            self._strikes[identity] += 1
        if self._strikes[identity] < STRIKES:
            return False
        del self._strikes[identity]
        return True

    def _put_back(self, pair: Pair, records: list[ConsumerRecord], *, why: str) -> None:
        """Wait until the teacher is back."""
        self._away = why
        for record in records:
            self._wait_in_line(record, pair)

    def _let_go_expired(self) -> None:
        kept = [each for each in self._waiting if not self._expired(each[2], each[3])]
        if len(kept) < len(self._waiting):
            heapq.heapify(kept)
            self._waiting = kept

    def _expired(self, record: ConsumerRecord, pair: Pair) -> bool:
        """Tell whether nobody waits for the pair any more; then it is done with."""
        if _now_ms() <= pair.deadline_ms:
            return False
        self.progress.expired += 1
        self._offsets.done(TopicPartition(record.topic, record.partition), record.offset)
        return True

    async def _deliver(self) -> None:
        judged, unjudgeable = list(self._judged), list(self._unjudgeable)
        if not (judged or unjudgeable):
            return
        letters = await self._in_thread(partial(deliver, self._producer, judged, unjudgeable))
        self.progress.dead_letters += letters
        del self._judged[: len(judged)], self._unjudgeable[: len(unjudgeable)]
        for each in judged:
            if isinstance(each.result, Judgement):
                self.progress.published += 1
        records = [record for each in judged for record in each.records]
        for record in [*records, *(each.record for each in unjudgeable)]:
            self._offsets.done(TopicPartition(record.topic, record.partition), record.offset)

    async def _commit(self) -> None:
        if offsets := self._offsets.to_commit():
            await self._in_thread(partial(self._reader.commit, offsets))
            self._offsets.committed(offsets)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._kafka, call)


def _with_origin(result: Result, pair: Pair) -> Result:
    """Return a judgement with what the pair says of where it comes from, which no teacher needs to know."""
    if isinstance(result, Refusal):
        return result
    return msgspec.structs.replace(result, traffic_class=pair.traffic_class, sampled_ms=pair.sampled_ms)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
