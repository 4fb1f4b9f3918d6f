"""The whole way from Kafka to ClickHouse: exact counts under kills, real UBI files, garbage by the thousand."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from ops import endpoints, heartbeat
from ops.bench.traffic import expected_counts, records
from ops.cli import dashboard_client
from ops.cli.context import CommandError
from ops.kafka import producer
from ops.settings import Settings, load
from ops.stack.ports import free_port
from streams.topics import UBI_EVENTS, UBI_QUERIES
from tests.streams.test_ingestion import garbled

pytestmark = [pytest.mark.integration, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

ROOT = Path(__file__).resolve().parents[2]
STARTS_WITHIN_S = 150
SETTLES_WITHIN_S = 240
STEADY_S = 4


class Stack:
    """`relevance up --no-shop` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        run_dir = folder / "run"
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("RELEVANCE_")
        }
        self.environment |= {
            "RELEVANCE_RUN_DIR": str(run_dir),
            "RELEVANCE_STACK__BROKER_PORT": str(free_port()),
            "RELEVANCE_METRICS__PORT": str(free_port()),
        }
        self.settings: Settings = load(self.environment)
        self.log = folder / "up.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ops.cli.main", "up", "--no-shop"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        until = time.monotonic() + STARTS_WITHIN_S
        while b"Ctrl-C stops" not in self.log.read_bytes():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.3)
        self.bootstrap = endpoints.kafka_address(self.settings)

    def totals(self) -> Counter[str]:
        """Return what ClickHouse holds, by kind; nothing while the page is being restarted."""
        try:
            store = self.store()
        except (CommandError, endpoints.NotRunningError):
            return Counter()
        return Counter({name: int(count) for name, count in store["totals"].items()} if store else {})

    def store(self) -> dict[str, Any]:
        """Return what the page says about the store, or nothing if it has no answer yet."""
        return dict(
            dashboard_client.get(self.settings, "/api/overview", timeout_s=10)["store"]["value"] or {}
        )

    def attributed_clicks(self, query: str) -> int:
        """Return how many of a query's impressions were clicked, as the page's drill-down tells."""
        answer = dashboard_client.get(
            self.settings, "/api/query?" + urlencode({"query": query, "limit": 500})
        )
        return sum(int(pair["clicks"]) for pair in answer["pairs"])

    def added_since(self, before: Counter[str], expected: dict[str, int]) -> dict[str, int]:
        """Wait until as many events were added as expected, and a little longer, and return what was added."""
        until = time.monotonic() + SETTLES_WITHIN_S
        added: dict[str, int] = {}
        while time.monotonic() < until:
            now = self.totals()
            added = {name: now[name] - before[name] for name in expected}
            if now and all(added[name] >= count for name, count in expected.items()):
                break
            time.sleep(1)
        # Doubles would show up after the last missing one.
        time.sleep(STEADY_S)
        now = self.totals() or now
        return {name: now[name] - before[name] for name in expected}

    def pid(self, part: str) -> int:
        """Return the process id of a part that beats."""
        until = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < until:
            found = heartbeat.read(self.settings.run_dir, part)
            if found and found.state == "ready" and time.time() - found.at_s < 30:
                return found.pid
            time.sleep(0.3)
        raise AssertionError(f"{part} does not come back")

    def broker_pid(self) -> int:
        """Return the process id of the broker, which has no heartbeat of its own."""
        port = self.bootstrap.rpartition(":")[2].encode()
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    arguments = (folder / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"--kafka-port" in arguments and port in arguments:
                    return int(folder.name)
        raise AssertionError("the broker is not running")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    running = Stack(tmp_path_factory.mktemp("pipeline"))
    yield running
    running.stop()


def send(stack: Stack, pages: int, *, seed: int, pages_per_s: float) -> int:
    """Send traffic at a rate; what the broker did not confirm while it restarted is sent again."""
    client = producer(stack.settings, stack.bootstrap, retries=1_000_000, request_timeout_ms=15_000)
    unconfirmed = [
        (client.send(topic, value, key=key), topic, key, value)
        for topic, key, value in paced(pages, seed, pages_per_s)
    ]
    sent = len(unconfirmed)
    client.flush(timeout=120)
    again = [(topic, key, value) for future, topic, key, value in unconfirmed if not future.succeeded()]
    client.close()
    if again:
        client = producer(stack.settings, stack.bootstrap)
        for future in [client.send(topic, value, key=key) for topic, key, value in again]:
            future.get(timeout=60)
        client.close()
    return sent


def paced(pages: int, seed: int, pages_per_s: float) -> Iterator[tuple[str, bytes, bytes]]:
    began = time.monotonic()
    page = 0
    for topic, key, value in records(pages, seed=seed, start_ms=int(time.time() * 1000) - 120_000):
        if topic == UBI_QUERIES:
            page += 1
            time.sleep(max(0.0, began + page / pages_per_s - time.monotonic()))
        yield topic, key, value


def test_counts_are_exact_when_workers_are_killed_and_the_broker_restarts(stack: Stack) -> None:
    pages = 3_000
    before = stack.totals()
    sender = threading.Thread(target=send, args=(stack, pages), kwargs={"seed": 1, "pages_per_s": 75})
    sender.start()
    killed: Counter[str] = Counter()
    for number in range(3):
        for part in ("streams-1", "metrics"):
            time.sleep(2.5)
            pid = stack.pid(part)
            os.kill(pid, signal.SIGKILL)
            killed[part] += 1
        if number == 1:
            os.kill(stack.broker_pid(), signal.SIGTERM)
            killed["broker"] += 1
    sender.join(timeout=300)
    assert not sender.is_alive()
    assert killed == {"streams-1": 3, "metrics": 3, "broker": 1}
    expected = expected_counts(pages)
    assert stack.added_since(before, expected) == expected


def test_every_click_found_its_impression(stack: Stack) -> None:
    sent = Counter(
        json.loads(value)["user_query"]
        for topic, _, value in records(200, seed=2, start_ms=0)
        if topic == UBI_QUERIES
    )
    # Rare ones, so that all of a query's pairs fit into one answer.
    watched = [query for query, count in sent.items() if count == 1][:5]
    before, clicked = stack.totals(), [stack.attributed_clicks(query) for query in watched]
    send(stack, 200, seed=2, pages_per_s=1_000)
    expected = expected_counts(200)
    assert stack.added_since(before, expected) == expected
    assert len(watched) == 5
    assert [stack.attributed_clicks(query) for query in watched] == [count + 1 for count in clicked]


def test_the_real_ubi_files_are_counted_as_they_are(stack: Stack) -> None:
    folder = load().data / "ubi"
    files = [folder / "queries.jsonl.gz", folder / "events.jsonl.gz"]
    if not folder.is_dir():
        pytest.skip(f"no real UBI files in {folder} (RELEVANCE_DATA)")
    actions: Counter[str] = Counter()
    for file in files:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            actions.update(json.loads(line).get("action_name", "query") for line in lines)
    before = stack.totals()
    subprocess.run(
        [sys.executable, "-m", "ops.cli.main", "replay", *map(str, files)],
        cwd=ROOT,
        env=stack.environment,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=True,
    )
    expected = {
        "queries": actions["query"],
        "impressions": actions["impression"],
        "clicks": actions["click"],
        "add_to_carts": actions["add_to_cart"],
        "purchases": actions["purchase"],
        "interactions": actions["search"],
        "dead_letters": 0,
    }
    assert sum(expected.values()) == actions.total()
    assert stack.added_since(before, expected) == expected


def test_ten_thousand_garbled_records_stop_no_worker(stack: Stack) -> None:
    rng = random.Random(5)
    before, pids = stack.totals(), [stack.pid(part) for part in ("streams-1", "metrics")]
    kinds = ("queries", "impressions", "clicks", "add_to_carts", "purchases", "interactions")
    client = producer(stack.settings, stack.bootstrap)
    sent = 0
    distinct: set[tuple[str, bytes]] = set()
    while sent < 10_000:
        topic, value = rng.choice([UBI_EVENTS, UBI_QUERIES]), garbled(rng)
        distinct.add((topic, value))
        client.send(topic, value, key=rng.choice([b"k", b"\xff\x00", None]))
        sent += 1
    client.send(UBI_EVENTS, None, key=b"tombstone")
    client.flush(timeout=60)
    client.close()
    marker = expected_counts(5)
    marked = stack.totals()
    send(stack, 5, seed=6, pages_per_s=1_000)
    until = time.monotonic() + SETTLES_WITHIN_S
    while (
        time.monotonic() < until and stack.totals()["purchases"] < marked["purchases"] + marker["purchases"]
    ):
        time.sleep(1)
    time.sleep(STEADY_S)
    after = stack.totals()
    dead = after["dead_letters"] - before["dead_letters"]
    typed = sum(after[kind] - before[kind] for kind in kinds) - sum(marker.values())
    # Typed records that are the same event are one row, so the sum is at most what was sent.
    assert dead + typed <= sent + 1
    assert dead >= 5_000
    assert typed + dead >= len(distinct) * 0.9
    assert [stack.pid(part) for part in ("streams-1", "metrics")] == pids
    reasons = {letter["reason"] for letter in stack.store()["dead_letters"]}
    assert "not_json" in reasons
    assert "internal" not in reasons
