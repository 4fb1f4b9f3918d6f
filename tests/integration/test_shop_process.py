from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ops import heartbeat, kafka
from ops.settings import Settings, load
from ops.shop import history
from ops.shop.catalogue_feed import CatalogueMark, path_in
from ops.shop.process import run
from streams.records import ExperimentState
from streams.topics import EXPERIMENT_STATES, TOPICS, UBI_EVENTS, UBI_QUERIES

pytestmark = pytest.mark.integration
ENDS_WITHIN_S = 60.0
KINDS = {
    "impression": "impressions",
    "click": "clicks",
    "add_to_cart": "add_to_carts",
    "purchase": "purchases",
}


def settings_in(run_dir: Path, experiment: str) -> Settings:
    return load(
        {
            "RELEVANCE_RUN_DIR": str(run_dir),
            "RELEVANCE_EXPERIMENT__NAME": experiment,
            "RELEVANCE_SHOP__ITEMS": "2000",
            "RELEVANCE_SHOP__QUERIES": "300",
            "RELEVANCE_SHOP__SHOPPERS": "100",
            "RELEVANCE_SHOP__SEARCHES_PER_S": "60",
            "RELEVANCE_SHOP__HISTORY_SEARCHES": "50",
        }
    )


@contextmanager
def running_shop(settings: Settings, broker: str) -> Iterator[None]:
    """Run the shop in a thread; on leaving, stop it and check that it ends in time and without an error."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def target() -> None:
        try:
            run(settings, broker, stop=stop)
        except BaseException as error:
            errors.append(error)
            raise

    thread = threading.Thread(target=target)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=ENDS_WITHIN_S)
    assert not errors
    assert not thread.is_alive()


def wait_for(settings: Settings, *, searches: int, clicks: int = 0, feature_reads: int = 0) -> None:
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s:
        found = heartbeat.read(settings.run_dir, "shop")
        if found and found.state == "ready":
            counters = found.counters
            # The reader opens beside the first searches; its counters are there from then on.
            read = counters.get("feature_reads", 0)
            if counters["searches"] >= searches and counters["clicks"] >= clicks and read >= feature_reads:
                return
        time.sleep(0.1)
    pytest.fail(f"expected {searches} searches, {clicks} clicks, {feature_reads} reads in 120 s, got {found}")


def read_topics(settings: Settings, broker: str) -> dict[str, list[dict[str, Any]]]:
    """Return every record of this shop on the UBI topics."""
    records: dict[str, list[dict[str, Any]]] = {UBI_QUERIES: [], UBI_EVENTS: []}
    consumer = kafka.consumer(settings, broker, *records, group_id=None)
    try:
        quiet = 0
        while quiet < 3:
            batches = consumer.poll(timeout_ms=500)
            quiet = 0 if batches else quiet + 1
            for partition, messages in batches.items():
                for message in messages:
                    if b'"relevance-shop"' not in (message.value or b""):
                        continue
                    value = msgspec.json.decode(message.value)
                    assert message.key.decode() == value["query_id"]
                    records[partition.topic].append(value)
    finally:
        consumer.close()
    return records


def announce(settings: Settings, broker: str, state: str) -> None:
    kafka.ensure_topics(settings, broker, [spec for spec in TOPICS if spec.name == EXPERIMENT_STATES])
    producer = kafka.producer(settings, broker)
    record = ExperimentState(experiment=settings.experiment.name, state=state, reason="test", since_ms=0)
    producer.send(EXPERIMENT_STATES, key=record.experiment.encode(), value=msgspec.json.encode(record))
    producer.flush(timeout=60)
    producer.close()


def arms_seen(queries: list[dict[str, Any]], experiment: str) -> set[str]:
    return {query["query_attributes"]["arms"][experiment] for query in queries}


def mine(records: list[dict[str, Any]], experiment: str) -> list[dict[str, Any]]:
    return [record for record in records if experiment in record["query_attributes"]["arms"]]


def test_history_then_live_traffic_then_a_second_start(broker: str, tmp_path: Path) -> None:
    experiment = f"shop-{uuid.uuid4().hex[:8]}"
    settings = settings_in(tmp_path, experiment)
    with running_shop(settings, broker):
        wait_for(settings, searches=250, clicks=20, feature_reads=1)
    counted = heartbeat.read(tmp_path, "shop")
    assert counted is not None
    assert counted.state == "stopping"
    mark = history.read_mark(tmp_path)
    assert mark is not None
    assert mark.complete
    everything = read_topics(settings, broker)
    live = mine(everything[UBI_QUERIES], experiment)
    day_before = [query for query in everything[UBI_QUERIES] if not query["query_attributes"]["arms"]]
    assert len(live) == counted.counters["searches"] - 50
    assert len(day_before) >= 50
    assert arms_seen(live, experiment) == {"control", "treatment"}
    versions = {
        (q["query_attributes"]["arms"][experiment], q["query_attributes"]["student_version"]) for q in live
    }
    assert versions == {("control", "lexical"), ("treatment", "oracle-with-noise")}
    ids = {query["query_id"] for query in live}
    events = [event for event in everything[UBI_EVENTS] if event["query_id"] in ids]
    kinds = Counter(event["action_name"] for event in events)
    assert kinds["impression"] == sum(len(query["query_response_hit_ids"]) for query in live)
    assert kinds["click"] > 0
    event_ids = [event["event_attributes"]["event_id"] for event in events]
    assert len(set(event_ids)) == len(event_ids)
    assert counted.counters["resent"] == counted.counters["fallback"] == 0
    kinds_sent = ("searches", "items", *KINDS.values())
    assert counted.counters["sent"] == sum(counted.counters[name] for name in kinds_sent)
    # The catalogue went out beside the searches, once for the run directory.
    feed = msgspec.json.decode(path_in(tmp_path).read_bytes(), type=CatalogueMark)
    assert feed.complete
    assert counted.counters["items"] >= 2000
    # Nothing was applied here, so no features were to be had once the reader was open; the pages say so.
    read = [query for query in live if "features" in query["query_attributes"]]
    assert counted.counters["feature_reads"] == counted.counters["feature_reads_degraded"] == len(read)
    for query in read:
        reads = query["query_attributes"]["features"]
        assert reads["item_ids"] == query["query_response_hit_ids"]
        assert set(reads["read_us"]) | set(reads["clicks"]) == {None}
    assert not any("features" in query["query_attributes"] for query in day_before)

    # A second start in the same run directory sends no history again, and no query twice.
    announce(settings, broker, "stopped")
    with running_shop(settings, broker):
        wait_for(settings, searches=60)
        announce(settings, broker, "running")
        wait_for(settings, searches=160)
        time.sleep(2.5)
    again = heartbeat.read(tmp_path, "shop")
    assert again is not None
    assert again.counters["items"] < 100
    before = {query["query_id"] for query in everything[UBI_QUERIES]}
    later = read_topics(settings, broker)[UBI_QUERIES]
    fresh = [
        query
        for query in later
        if query["query_id"] not in before and query["application"] == live[0]["application"]
    ]
    assert len(fresh) == again.counters["searches"]
    fresh.sort(key=lambda query: str(query["timestamp"]))
    # Stopped at first: nobody is served the treatment or counted under an arm, from the very first search on.
    assert {query["query_attributes"]["student_version"] for query in fresh[:60]} == {"lexical"}
    assert not any(query["query_attributes"]["arms"] for query in fresh[:60])
    assert arms_seen(fresh[-20:], experiment) == {"control", "treatment"}


def test_a_catalogue_that_cannot_be_read_ends_the_shop_with_its_reason(broker: str, tmp_path: Path) -> None:
    settings = load(
        {"RELEVANCE_RUN_DIR": str(tmp_path), "RELEVANCE_SHOP__CATALOGUE": str(tmp_path / "nowhere")}
    )
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        run(settings, broker, stop=threading.Event())
