"""The feed: what ClickHouse knows of queries and shoppers onto `queries.statistics` and `shoppers.history`.

Runs in the process that holds ClickHouse. Each look asks for what rows that came in since the last one may have
changed and says it anew if it is other than before; `known_ms` is when the answer was there, so nobody reads what was
not known yet. When a frequency window begins, counts of an older one are forgotten: all statistics are said anew.

A look holds `SLICE_ROWS` keys at a time, about, and after a long one the pause is long too, so that the feed has a
tenth of ClickHouse's time at most. How far it has come is in a small file of the run directory; without the file
everything is said once more, which costs time and changes nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import msgspec
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from kafka import KafkaProducer
from kafka.errors import KafkaError

from feature_store import from_clickhouse
from feature_store.from_clickhouse import Slice, windows_since_ms
from ops.batch_loop import line
from ops.files import write_atomically
from ops.kafka import producer as open_producer
from ops.settings import Settings
from streams.records import QueryStatistics, ShopperHistory
from streams.topics import QUERIES_STATISTICS, SHOPPERS_HISTORY

FILE = "features-feed.json"
#: Rows carry the time at which their insert began: longer than an insert may take is looked at again.
OVERLAP_MS = 60_000
SLICE_ROWS = 20_000
#: What was said last, by key: enough for what changes within the overlap. Forgetting only says something twice.
REMEMBERED = 200_000
BUSY_SHARE = 0.1
SEND_TIMEOUT_S = 30

logger = logging.getLogger(__name__)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """How far the feed has come: rows stored before `changed_ms` (ClickHouse's clock) have been looked at, for the
    statistics of the windows from `since_ms` on and the history outside `experiment`. All 0: nothing was said yet."""

    changed_ms: int = 0
    since_ms: int = 0
    experiment: str = ""


@dataclass(slots=True)
class Progress:
    """What was done since the start, for a heartbeat. `trouble` is one line for people, empty if all is well."""

    looks: int = 0
    failures: int = 0
    queries: int = 0
    shoppers: int = 0
    unchanged: int = 0
    look_ms: float = 0.0
    trouble: str = ""

    def counters(self) -> dict[str, float]:
        """Return the numbers by name, each with `feed_` before it."""
        return {
            f"feed_{each.name}": float(getattr(self, each.name))
            for each in fields(self)
            if each.name != "trouble"
        }


class Feed:
    """Looks at ClickHouse and says what changed. For one thread, which has `client` to itself."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        producer: KafkaProducer,
        *,
        progress: Progress,
        clock_ms: Callable[[], int],
        slice_rows: int = SLICE_ROWS,
    ) -> None:
        self._client = client
        self._producer = producer
        self._progress = progress
        self._clock_ms = clock_ms
        self._slice_rows = slice_rows
        self._window_s = settings.streams.frequency_window_s
        self._experiment = settings.experiment.name
        self._max_future_ms = int(settings.ubi.max_future_s * 1000)
        self._path = settings.run_dir / FILE
        self._place = read_place(self._path)
        self._said: dict[tuple[str, str], Hashable] = {}

    def look(self, stop: threading.Event) -> None:
        """Say what changed since the last look, unless `stop` is set in between: then the next one says it.

        Raises ClickHouseError, KafkaError, OSError; what was not said by then is said by the next look.
        """
        began_ms = from_clickhouse.now_ms(self._client)
        since_ms = windows_since_ms(now_ms=self._clock_ms(), window_s=self._window_s)
        place = self._place
        queries_ms = place.changed_ms if since_ms == place.since_ms else 0
        shoppers_ms = place.changed_ms if self._experiment == place.experiment else 0
        if not queries_ms or not shoppers_ms:
            # A statement is void some time after it was made, so those that stay the same are made again too.
            self._said.clear()
        if not (self._say_statistics(since_ms, queries_ms, stop) and self._say_history(shoppers_ms, stop)):
            return
        self._place = Place(
            changed_ms=max(1, began_ms - OVERLAP_MS), since_ms=since_ms, experiment=self._experiment
        )
        write_atomically(self._path, msgspec.json.encode(self._place))
        self._progress.looks += 1

    def _say_statistics(self, since_ms: int, changed_ms: int, stop: threading.Event) -> bool:
        count = from_clickhouse.changed_queries(self._client, since_ms=since_ms, changed_ms=changed_ms)
        for of in self._slices(changed_ms, count):
            if stop.is_set():
                return False
            self._progress.queries += self._say_queries(
                from_clickhouse.query_statistics(
                    self._client, since_ms=since_ms, clock_ms=self._clock_ms, of=of
                )
            )
        return True

    def _say_history(self, changed_ms: int, stop: threading.Event) -> bool:
        # Clocks of shoppers may be ahead, and what they did is known all the same.
        until_ms = self._clock_ms() + self._max_future_ms
        count = from_clickhouse.changed_shoppers(
            self._client, experiment=self._experiment, until_ms=until_ms, changed_ms=changed_ms
        )
        for of in self._slices(changed_ms, count):
            if stop.is_set():
                return False
            self._progress.shoppers += self._say_shoppers(
                from_clickhouse.shopper_history(
                    self._client,
                    experiment=self._experiment,
                    until_ms=until_ms,
                    clock_ms=self._clock_ms,
                    of=of,
                )
            )
        return True

    def _slices(self, changed_ms: int, count: int) -> list[Slice]:
        slices = -(-count // self._slice_rows)
        return [Slice(changed_ms, number, slices) for number in range(slices)]

    def _say_queries(self, statements: Iterable[QueryStatistics]) -> int:
        return self._say(
            QUERIES_STATISTICS,
            [
                (each.query, (each.frequency, each.traffic_class, each.teacher_coverage), each)
                for each in statements
            ],
        )

    def _say_shoppers(self, statements: Iterable[ShopperHistory]) -> int:
        return self._say(
            SHOPPERS_HISTORY,
            [
                (each.client_id, (each.impressions, each.clicks, each.conversions), each)
                for each in statements
            ],
        )

    def _say(
        self, topic: str, statements: Iterable[tuple[str, Hashable, QueryStatistics | ShopperHistory]]
    ) -> int:
        """Send what is other than was said before, and return how much once the broker has it."""
        sent = []
        for key, values, statement in statements:
            if self._said.get((topic, key)) == values:
                self._progress.unchanged += 1
                continue
            raw = key.encode("utf-8", "surrogatepass")
            future = self._producer.send(topic, key=raw, value=msgspec.json.encode(statement))
            sent.append((key, values, future))
        self._producer.flush(timeout=SEND_TIMEOUT_S)
        for key, values, future in sent:
            future.get(timeout=SEND_TIMEOUT_S)
            # Put at the end, so that the first ones are those said longest ago.
            self._said.pop((topic, key), None)
            self._said[topic, key] = values
        while len(self._said) > REMEMBERED:
            del self._said[next(iter(self._said))]
        return len(sent)


def read_place(path: Path) -> Place:
    """Return how far the feed has come by its file; without one, or with a damaged one, nowhere."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Place)
    except FileNotFoundError:
        return Place()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        logger.warning("%s says not how far the feed has come, so all is said once more: %s", path, error)
        return Place()


def run_feed(
    settings: Settings, bootstrap: str, client: Client, *, stop: threading.Event, progress: Progress
) -> None:
    """Look every `features.feed_every_s` until `stop` is set. The topics must exist.

    A store or broker that does not answer is told in `Progress.trouble` and asked again; any other error ends it.
    """
    producer = open_producer(settings, bootstrap)
    try:
        feed = Feed(settings, client, producer, progress=progress, clock_ms=_now_ms)
        pause_s = settings.features.feed_every_s
        while not stop.wait(pause_s):
            began_s = time.monotonic()
            try:
                feed.look(stop)
                progress.trouble = ""
            except (ClickHouseError, KafkaError, OSError) as error:
                progress.failures += 1
                told = f"feed of features: {line(error)}"
                if told != progress.trouble:
                    logger.warning("%s", told)
                progress.trouble = told
            took_s = time.monotonic() - began_s
            progress.look_ms = took_s * 1000
            pause_s = max(settings.features.feed_every_s, took_s * (1 / BUSY_SHARE - 1))
    finally:
        producer.close(timeout=2)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
