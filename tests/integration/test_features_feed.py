"""The feed between a real ClickHouse, a real broker and a real feature store: what is known arrives, once, and not
before it was known."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from kafka import KafkaProducer

from feature_store import from_clickhouse, pusher
from feature_store.history import historical
from feature_store.pusher import run_pusher
from feature_store.store import apply
from feature_store.writing import FeatureWriter
from ops.features_feed import FILE, Feed, Place, Progress, read_place, run_feed
from ops.kafka import consumer, ensure_topics, producer
from ops.settings import Settings
from streams.records import QueryStatistics, ShopperHistory
from streams.topics import DEAD_LETTERS, QUERIES_STATISTICS, SHOPPERS_HISTORY, TOPICS

pytestmark = pytest.mark.integration

TABLES = ("queries", "impressions", "clicks", "conversions", "judgements")
#: So long that none begins while a test runs.
WINDOW_S = 1e8
HOSTILE = "'; DROP TABLE queries; -- <img src=x> \\ {x:String} mug"


@pytest.fixture(name="client")
def _client(embedded_client: Client) -> Iterator[Client]:
    def clear() -> None:
        for table in TABLES:
            embedded_client.command(f"TRUNCATE TABLE {table}")

    clear()
    yield embedded_client
    clear()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _settings(tmp_path: Path, **features: Any) -> Settings:
    return Settings.model_validate(
        {
            "run_dir": str(tmp_path),
            "streams": {"frequency_window_s": WINDOW_S},
            "features": {"group": str(uuid.uuid4()), "flush_within_s": 0.1, "feed_every_s": 0.2} | features,
        }
    )


def _insert(client: Client, table: str, *rows: dict[str, Any]) -> None:
    for row in rows:
        whole: dict[str, Any] = {"version": 3, "event_time": _now_ms()} | row
        whole["event_time"] = datetime.fromtimestamp(whole["event_time"] / 1000, UTC)
        client.insert(table, [list(whole.values())], column_names=list(whole))


def _search(client: Client, query: str, shopper: str, *items: str, **fields: Any) -> None:
    """Insert a search outside any experiment and what was shown for it."""
    of = {"client_id": shopper, "normalised_query": query, "traffic_class": "tail"} | fields
    _insert(client, "queries", of | {"event_id": str(uuid.uuid4())})
    _insert(client, "impressions", *(of | {"event_id": str(uuid.uuid4()), "item_id": i} for i in items))


def _click(client: Client, query: str, shopper: str) -> None:
    of = {"client_id": shopper, "normalised_query": query, "traffic_class": "tail", "item_id": "i1"}
    shown = {"event_id": str(uuid.uuid4()), "impression_id": str(uuid.uuid4())}
    _insert(client, "clicks", of | shown | {"attribution": "impression", "delay_ms": 5})


def _judge(client: Client, query: str, item_id: str) -> None:
    of = {"content_hash": "h", "teacher_id": "t", "prompt_hash": "p"}
    _insert(client, "judgements", of | {"query": query, "item_id": item_id})


class _Looks:
    """A feed whose looks are called one by one, and what each of them said."""

    def __init__(self, settings: Settings, bootstrap: str, client: Client, **options: Any) -> None:
        self.progress = Progress()
        self.now_ms: Callable[[], int] = _now_ms
        self._sender = producer(settings, bootstrap)
        self._feed = Feed(
            settings, client, self._sender, progress=self.progress, clock_ms=self._clock_ms, **options
        )
        self._reading = consumer(
            settings, bootstrap, QUERIES_STATISTICS, SHOPPERS_HISTORY, consumer_timeout_ms=1500
        )

    def _clock_ms(self) -> int:
        return self.now_ms()

    def look(self, stop: threading.Event | None = None) -> tuple[list[QueryStatistics], list[ShopperHistory]]:
        """Look once and return what was said, by key."""
        self._feed.look(stop or threading.Event())
        queries: list[QueryStatistics] = []
        shoppers: list[ShopperHistory] = []
        for record in self._reading:
            if record.topic == QUERIES_STATISTICS:
                queries.append(msgspec.json.decode(record.value, type=QueryStatistics))
                assert record.key.decode() == queries[-1].query
            else:
                shoppers.append(msgspec.json.decode(record.value, type=ShopperHistory))
                assert record.key.decode() == shoppers[-1].client_id
        return sorted(queries, key=lambda one: one.query), sorted(shoppers, key=lambda one: one.client_id)

    def close(self) -> None:
        self._reading.close()
        self._sender.close()


def test_each_look_says_what_changed_and_no_more(empty_broker: str, tmp_path: Path, client: Client) -> None:
    settings = _settings(tmp_path)
    ensure_topics(settings, empty_broker, TOPICS)
    looks = _Looks(settings, empty_broker, client)
    assert looks.look() == ([], [])
    _search(client, "mug", "a", "i1", "i2")
    _search(client, HOSTILE, "b", "i1")
    before_ms = _now_ms()
    queries, shoppers = looks.look()
    assert [(one.query, one.frequency, one.teacher_coverage) for one in queries] == [
        (HOSTILE, 1, 0.0),
        ("mug", 1, 0.0),
    ]
    assert [(one.client_id, one.impressions, one.clicks) for one in shoppers] == [("a", 2, 0), ("b", 1, 0)]
    known_ms = [*(one.known_ms for one in queries), *(one.known_ms for one in shoppers)]
    assert before_ms <= min(known_ms) <= max(known_ms) <= _now_ms()

    # The same rows are looked at again, since inserts may have been under way, and nothing is said twice.
    assert looks.look() == ([], [])
    assert looks.progress.unchanged == 4
    _judge(client, "Mug", "i1")
    _click(client, "mug", "b")
    queries, shoppers = looks.look()
    assert [(one.query, one.frequency, one.teacher_coverage) for one in queries] == [("mug", 1, 0.5)]
    assert [(one.client_id, one.impressions, one.clicks) for one in shoppers] == [("b", 1, 1)]

    # Within the experiment a search counts for its query and is no history.
    _search(client, "mug", "a", "i3", arms={settings.experiment.name: "control"})
    queries, shoppers = looks.look()
    assert [(one.query, one.frequency) for one in queries] == [("mug", 2)]
    assert shoppers == []
    assert (looks.progress.looks, looks.progress.queries, looks.progress.shoppers) == (5, 4, 3)
    looks.close()


def test_when_a_window_begins_all_is_said_anew_without_what_is_over(
    empty_broker: str, tmp_path: Path, client: Client
) -> None:
    settings = _settings(tmp_path)
    ensure_topics(settings, empty_broker, TOPICS)
    window_ms = int(WINDOW_S * 1000)
    begins_ms = _now_ms() // window_ms * window_ms
    _search(client, "old", "a", event_time=begins_ms - window_ms + 1)
    _search(client, "both", "a", event_time=begins_ms - window_ms + 1)
    _search(client, "both", "a", event_time=begins_ms + 1)
    looks = _Looks(settings, empty_broker, client)
    looks.now_ms = lambda: begins_ms + window_ms - 1
    queries, _ = looks.look()
    assert [(one.query, one.frequency) for one in queries] == [("both", 2), ("old", 1)]
    assert looks.look() == ([], [])
    looks.now_ms = lambda: begins_ms + window_ms
    queries, _ = looks.look()
    assert [(one.query, one.frequency, one.known_ms) for one in queries] == [
        ("both", 1, begins_ms + window_ms)
    ]
    looks.close()


def test_it_goes_on_where_it_was_and_many_keys_come_in_slices(
    empty_broker: str, tmp_path: Path, client: Client
) -> None:
    settings = _settings(tmp_path)
    ensure_topics(settings, empty_broker, TOPICS)
    for number in range(30):
        _search(client, f"q{number}", f"s{number}", "i1")
    looks = _Looks(settings, empty_broker, client, slice_rows=7)
    stopped = threading.Event()
    stopped.set()
    assert looks.look(stopped) == ([], [])
    assert read_place(tmp_path / FILE) == Place()
    queries, shoppers = looks.look()
    assert {one.query for one in queries} == {f"q{number}" for number in range(30)}
    assert {one.client_id for one in shoppers} == {f"s{number}" for number in range(30)}
    assert (len(queries), len(shoppers)) == (30, 30)
    looks.close()

    place = read_place(tmp_path / FILE)
    # As if more time than the overlap had gone by.
    later = msgspec.structs.replace(place, changed_ms=_now_ms() + 60_000)
    (tmp_path / FILE).write_bytes(msgspec.json.encode(later))
    again = _Looks(settings, empty_broker, client)
    list(again._reading)
    assert again.look() == ([], [])
    again.close()
    (tmp_path / FILE).write_bytes(b'{"changed_ms": "x')
    without = _Looks(settings, empty_broker, client)
    list(without._reading)
    queries, shoppers = without.look()
    assert (len(queries), len(shoppers)) == (30, 30)
    without.close()


def test_what_the_broker_did_not_take_is_said_by_the_next_look(
    empty_broker: str, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(tmp_path)
    ensure_topics(settings, empty_broker, TOPICS)
    _search(client, "mug", "a", "i1")
    looks = _Looks(settings, empty_broker, client)

    def refuses(*_: Any, **__: Any) -> None:
        raise OSError("the broker is away")

    with monkeypatch.context() as patched:
        patched.setattr(KafkaProducer, "flush", refuses)
        with pytest.raises(OSError, match="away"):
            looks._feed.look(threading.Event())
    assert read_place(tmp_path / FILE) == Place()
    queries, shoppers = looks.look()
    assert ({one.query for one in queries}, {one.client_id for one in shoppers}) == ({"mug"}, {"a"})
    looks.close()


def _until(condition: Callable[[], bool], *, within_s: float = 120) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.05)


def test_from_clickhouse_into_the_feature_store_without_a_leak(
    empty_broker: str, tmp_path: Path, client: Client
) -> None:
    settings = _settings(tmp_path)
    ensure_topics(settings, empty_broker, TOPICS)
    store = apply(settings)
    stop = threading.Event()
    fed, pushed = Progress(), pusher.Progress()

    def note(now: pusher.Progress) -> None:
        for name in pusher.Progress.__slots__:
            setattr(pushed, name, getattr(now, name))

    threads = [
        threading.Thread(
            target=run_feed, args=(settings, empty_broker, client), kwargs={"stop": stop, "progress": fed}
        ),
        threading.Thread(
            target=run_pusher, args=(settings, empty_broker), kwargs={"stop": stop, "on_progress": note}
        ),
    ]
    for thread in threads:
        thread.start()
    writer = FeatureWriter(settings)

    def online(view: str, key: str, feature: str) -> Any:
        row = writer.read(view, [(key,)], (feature,)).get((key,))
        return row[feature] if row else None

    moments = []
    try:
        moments.append(_now_ms())
        _search(client, "mug", "a", "i1", "i2")
        _until(lambda: online("query_statistics", "mug", "frequency") is not None)
        _until(lambda: online("shopper_segment", "a", "segment") is not None)
        moments.append(_now_ms())
        time.sleep(0.01)
        _search(client, "mug", "b", "i1")
        _judge(client, "mug", "i2")
        _click(client, "mug", "a")
        _until(lambda: online("query_statistics", "mug", "teacher_coverage").double_val == 0.5)
        _until(lambda: online("query_statistics", "mug", "frequency").int64_val == 2)
        _until(lambda: online("shopper_segment", "a", "segment").string_val == "clicker")
        moments.append(_now_ms())
        sender = producer(settings, empty_broker)
        for topic in (QUERIES_STATISTICS, SHOPPERS_HISTORY):
            sender.send(topic, key=b"mug", value=b"{broken").get(timeout=30)
        sender.close()
        _until(lambda: pushed.dead_letters == 2)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        writer.close()
    assert (fed.failures, fed.trouble, pushed.trouble) == (0, "", "")
    assert pushed.history["query_statistics"] >= 2
    assert pushed.newest_ms["query_statistics"] >= moments[1]
    assert pushed.counters()["history_shopper_segment"] >= 2

    at = pd.DataFrame(
        {
            "query": "mug",
            "client_id": "a",
            "event_timestamp": pd.to_datetime(moments, unit="ms", utc=True),
            "moment": range(3),
        }
    )
    features = ["query_statistics:frequency", "query_statistics:teacher_coverage", "shopper_segment:segment"]
    for as_known in (True, False):
        found = historical(store, at, features, as_known=as_known).sort_values("moment")
        assert found["frequency"].fillna(-1).tolist() == [-1, 1, 2]
        assert found["teacher_coverage"].fillna(-1).tolist() == [-1, 0.0, 0.5]
        assert found["segment"].fillna("").tolist() == ["", "browser", "clicker"]
    reading = consumer(settings, empty_broker, DEAD_LETTERS, consumer_timeout_ms=2000)
    reasons = sorted(dict(letter.headers)["reason"] for letter in reading)
    reading.close()
    assert reasons == [b"not_a_shopper_history", b"not_query_statistics"]


def test_a_store_that_does_not_answer_is_told_and_asked_again(
    empty_broker: str, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(tmp_path)
    ensure_topics(settings, empty_broker, TOPICS)
    _search(client, "mug", "a", "i1")
    stop, progress = threading.Event(), Progress()
    asked = from_clickhouse.now_ms

    def away(_: Client) -> int:
        raise ClickHouseError("no server\nhere")

    monkeypatch.setattr(from_clickhouse, "now_ms", away)
    thread = threading.Thread(
        target=run_feed, args=(settings, empty_broker, client), kwargs={"stop": stop, "progress": progress}
    )
    thread.start()
    try:
        _until(lambda: progress.failures >= 2)
        assert progress.trouble == "feed of features: no server here"
        monkeypatch.setattr(from_clickhouse, "now_ms", asked)
        _until(lambda: progress.queries == 1 and not progress.trouble)
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
    assert progress.counters()["feed_shoppers"] == 1
