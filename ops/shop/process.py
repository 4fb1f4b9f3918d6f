"""The simulated shop as a process: a day of history once per run directory, then live traffic.

Clicks and purchases are sent when they happen. When the shop stops, those that have not happened yet never
will; what was handed to the producer is delivered first. At 25 searches/s (285 records/s) it took 12 %
of a core, 3 % of it for pages and shoppers (1.2 ms a search), most of the rest for kafka-python; a history of
4,000 searches took 13 s.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from ops import kafka
from ops.heartbeat import Heartbeat, beat
from ops.settings import Settings
from ops.shop import history
from ops.shop.ad_engine import AdEngine, draw_bids
from ops.shop.catalogue_feed import CatalogueFeed
from ops.shop.feature_reads import EngineFeatures
from ops.shop.oracle import NoisyOracleScorer
from ops.shop.outbox import Outbox, in_order
from ops.shop.retrieval import Retriever
from ops.shop.scorers import LexicalScorer
from ops.shop.shop import Shop, fingerprint, open_shop
from ops.shop.shoppers import Population
from ops.shop.traffic import Traffic
from streams.records import ExperimentState
from streams.topics import CATALOGUE_ITEMS, EXPERIMENT_STATES, STUDENTS, TOPICS, UBI_EVENTS, UBI_QUERIES

PART = "shop"
BEAT_EVERY_S = 1.0
#: Records go out in gusts this far apart: waking for each would cost several times the processor time.
TICK_S = 0.1
LINGER_MS = 250
DELIVER_WITHIN_S = 2.0
DELIVER_HISTORY_WITHIN_S = 60.0
READ_STATES_WITHIN_S = 5.0
#: While so many records wait for the broker, nobody searches.
MAX_WAITING = 100_000
#: A shop that has slept or fallen behind by more does not make up for it.
MAX_BEHIND_S = 5.0

logger = logging.getLogger(__name__)


def build_engine(
    settings: Settings, shop: Shop, *, clock_s: Callable[[], float] = time.perf_counter
) -> AdEngine:
    """Return the engine of the experiment: lexical control, oracle with noise as treatment."""
    lexical = LexicalScorer(shop.items.values())
    return AdEngine(
        items=shop.items,
        retriever=Retriever(shop.items.values()),
        bids=draw_bids(shop.items, seed=settings.shop.seed),
        control=lexical,
        treatment=NoisyOracleScorer(shop.truth, noise=settings.shop.oracle_noise, seed=settings.shop.seed),
        fallback=lexical,
        experiment=settings.experiment,
        page_size=settings.shop.page_size,
        clock_s=clock_s,
    )


def open_features(settings: Settings) -> EngineFeatures:
    """Return the engine's reads of the feature store. Takes seconds: Feast is large."""
    from feature_store.reader import FeatureReader

    return EngineFeatures(FeatureReader(settings))


def run(settings: Settings, bootstrap: str, *, stop: threading.Event) -> None:
    """Serve until `stop` is set, then deliver what was sent and return within three seconds.

    Raises CatalogueError if the real catalogue cannot be read, RuntimeError if the broker does not take the
    history.
    """
    process = _Process(settings, bootstrap)
    try:
        if process.send_history(stop):
            process.serve(stop)
    finally:
        process.close()


class _Process:
    def __init__(self, settings: Settings, bootstrap: str) -> None:
        self._settings = settings
        self._next_beat_s = 0.0
        self._beat("starting", "opening the shop", {})
        self._shop = open_shop(settings.shop)
        self._engine = build_engine(settings, self._shop)
        self._arms = ExitStack()
        self._features: EngineFeatures | None = None
        self._opening: Future[EngineFeatures] | None = None
        self._feed = CatalogueFeed(
            settings.run_dir,
            self._shop.items,
            changed_share_per_hour=settings.shop.changed_share_per_hour,
            seed=settings.shop.seed,
            now_ms=_now_ms(),
        )
        for item_id, item in self._feed.current.items():
            if item is not self._shop.items[item_id]:
                self._engine.replace(item)
        self._population = Population(shoppers=settings.shop.shoppers, seed=settings.shop.seed)
        self._about = f"{len(self._shop.items)} items, {len(self._shop.queries)} queries"
        logger.info("%s, fingerprint %s", self._about, fingerprint(self._shop))
        wanted = (UBI_QUERIES, UBI_EVENTS, EXPERIMENT_STATES, CATALOGUE_ITEMS, STUDENTS)
        kafka.ensure_topics(settings, bootstrap, [spec for spec in TOPICS if spec.name in wanted])
        if settings.shop.students:
            # Only where they score: they bring onnxruntime and Triton's client along.
            from ops.shop.student_arms import StudentArms

            lexical = LexicalScorer(self._shop.items.values())
            arms = StudentArms(settings, bootstrap, items=self._shop.items, lexical=lexical)
            self._engine.score_with(control=arms.control, treatment=arms.treatment)
            self._arms.enter_context(arms)
        self._states: KafkaConsumer = kafka.consumer(settings, bootstrap, group_id=None)
        self._producer: KafkaProducer = kafka.producer(
            settings, bootstrap, linger_ms=LINGER_MS, max_block_ms=1000
        )
        self._outbox = Outbox(self._producer)

    def send_history(self, stop: threading.Event) -> bool:
        """Send the day before, unless this run directory has had it. Return False if stopped midway."""
        run_dir, shop = self._settings.run_dir, self._settings.shop
        mark = history.read_mark(run_dir)
        if mark is not None and mark.complete:
            return True
        if mark is None:
            mark = history.HistoryMark(ends_ms=_now_ms(), complete=False)
            history.write_mark(run_dir, mark)
        start_ms = mark.ends_ms - history.DAY_MS
        traffic = Traffic(self._shop, self._engine, self._population, seed=shop.seed, start_ms=start_ms)
        scorer = LexicalScorer(self._shop.items.values())
        past = history.searches(
            traffic, scorer, count=shop.history_searches, ends_ms=mark.ends_ms, seed=shop.seed
        )
        for record in in_order(past):
            self._outbox.put([record])
            while not self._outbox.send_due(record.due_ms):
                self._beat("starting", "the broker takes no history at present")
                stop.wait(BEAT_EVERY_S)
                if stop.is_set():
                    return False
            if stop.is_set():
                return False
            self._beat_if_due("starting", "sending the day before the experiment")
        missing = self._outbox.deliver(mark.ends_ms, timeout_s=DELIVER_HISTORY_WITHIN_S)
        if missing:
            raise RuntimeError(
                f"the broker did not take {missing} records of the shop's history within "
                f"{DELIVER_HISTORY_WITHIN_S:g} s; all of it is sent again at the next start"
            )
        history.write_mark(run_dir, msgspec.structs.replace(mark, complete=True))
        return True

    def serve(self, stop: threading.Event) -> None:
        """Send live traffic until stopped."""
        self._read_states_so_far(stop)
        if self._settings.stack.features:
            # Beside the traffic, which needs no features to begin.
            self._opening = ThreadPoolExecutor(1).submit(open_features, self._settings)
        shop = self._settings.shop
        start_ms = _now_ms()
        traffic = Traffic(
            self._shop,
            self._engine,
            self._population,
            seed=shop.seed,
            start_ms=start_ms,
            speed=shop.speed,
        )
        next_search_s = start_ms / 1000 + traffic.gap_s(shop.searches_per_s)
        while not stop.is_set():
            now_s = time.time()
            if abs(now_s - next_search_s) > MAX_BEHIND_S + 10 / (shop.speed * shop.searches_per_s):
                next_search_s = now_s
            while next_search_s <= now_s and len(self._outbox) < MAX_WAITING:
                self._outbox.put(traffic.search(int(next_search_s * 1000)))
                next_search_s += traffic.gap_s(shop.searches_per_s)
            self._outbox.put(self._feed.due(int(now_s * 1000)))
            taken = self._outbox.send_due(int(now_s * 1000))
            if self._beat_if_due("ready", self._detail()):
                self._read_states()
                self._take_features()
                self._change_offers(int(now_s * 1000))
            stop.wait(TICK_S if taken else BEAT_EVERY_S)

    def _take_features(self) -> None:
        if self._opening is not None and self._opening.done():
            self._features = self._opening.result()
            self._opening = None
            self._engine.read_from(self._features)

    def _change_offers(self, now_ms: int) -> None:
        self._feed.taken(int(self._outbox.counters()["items"]))
        for record in self._feed.change(now_ms):
            self._engine.replace(self._feed.current[record.key])
            self._outbox.put([record])

    def _detail(self) -> str:
        shop = self._settings.shop
        detail = f"{self._about}, {shop.speed * shop.searches_per_s:g} searches/s"
        trouble = self._features.trouble if self._features else ""
        return f"{detail}; features: {trouble}" if trouble else detail

    def close(self) -> None:
        """Deliver what the producer holds, and say so."""
        self._beat("stopping", "delivering the last events")
        missing = self._outbox.deliver(_now_ms(), timeout_s=DELIVER_WITHIN_S)
        if missing:
            logger.error("%d records are lost: the broker did not take them in time", missing)
        self._producer.close(timeout=0.2)
        self._states.close(timeout_ms=300)
        if self._features:
            self._features.close()
        self._arms.close()
        self._beat("stopping", "stopped")

    def _read_states_so_far(self, stop: threading.Event) -> None:
        """Read the states of the past, so that a stopped experiment serves nobody the treatment at first."""
        until_s = time.monotonic() + READ_STATES_WITHIN_S
        ends: dict[TopicPartition, int] = {}
        while not ends or any(self._states.position(each) < end for each, end in ends.items()):
            if stop.is_set():
                return
            if time.monotonic() > until_s:
                raise RuntimeError(
                    f"could not read topic {EXPERIMENT_STATES} within {READ_STATES_WITHIN_S:g} s"
                )
            if ends:
                self._read_states(timeout_ms=100)
            elif numbers := self._states.partitions_for_topic(EXPERIMENT_STATES):
                partitions = [TopicPartition(EXPERIMENT_STATES, number) for number in sorted(numbers)]
                self._states.assign(partitions)
                self._states.seek_to_beginning(*partitions)
                ends = self._states.end_offsets(partitions)
            else:
                stop.wait(0.1)

    def _read_states(self, timeout_ms: int = 0) -> None:
        for messages in self._states.poll(timeout_ms=timeout_ms).values():
            for message in messages:
                if message.value is None:
                    continue
                try:
                    state = msgspec.json.decode(message.value, type=ExperimentState)
                except msgspec.DecodeError as error:
                    logger.error(
                        "%s offset %d is no experiment state: %s", message.topic, message.offset, error
                    )
                    continue
                self._engine.apply(state)

    def _beat_if_due(self, state: str, detail: str) -> bool:
        due = time.time() >= self._next_beat_s
        if due:
            self._beat(state, detail)
        return due

    def _beat(self, state: str, detail: str, counters: dict[str, float] | None = None) -> None:
        now_s = time.time()
        self._next_beat_s = now_s + BEAT_EVERY_S
        if counters is None:
            counters = self._outbox.counters()
            if self._features:
                counters |= {name: float(count) for name, count in self._features.counters.items()}
        beat(
            self._settings.run_dir,
            Heartbeat(part=PART, pid=os.getpid(), at_s=now_s, state=state, detail=detail, counters=counters),
        )


def _now_ms() -> int:
    return int(time.time() * 1000)
