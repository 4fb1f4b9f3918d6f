"""The embedded broker under its guard: what it acknowledged is there after a SIGTERM, whoever got the signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import KafkaError

from ops.kafka import consumer, ensure_topics, producer
from ops.settings import Settings
from ops.stack.broker_guard import termination_pending
from ops.stack.broker_probe import wait_until_ready
from ops.stack.ports import free_port
from streams.topics import TopicSpec

pytestmark = [pytest.mark.integration, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]
ROOT = Path(__file__).resolve().parents[2]
TOPIC = "guarded"
QUIET_POLLS = 4
#: Records that the broker has before it is asked to end, and that it is sent after that.
ACKNOWLEDGED = 600
SENT_AFTER = 1500
PATIENCE_S = 90.0


def start(port: int, folder: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "ops.stack.broker_guard", str(port), str(folder)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until_ready(Settings(), f"127.0.0.1:{port}", timeout_s=PATIENCE_S)
    return process


def child_of(process: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


def read_all(bootstrap: str) -> set[bytes]:
    reader = consumer(Settings(), bootstrap, TOPIC)
    found: set[bytes] = set()
    quiet = 0
    while quiet < QUIET_POLLS:
        polled = [record.value for records in reader.poll(500).values() for record in records]
        found.update(polled)
        quiet = 0 if polled else quiet + 1
    reader.close()
    return found


@pytest.mark.parametrize("whom", ["guard", "broker"])
def test_what_was_acknowledged_survives_a_sigterm_under_load(tmp_path: Path, whom: str) -> None:
    port = free_port()
    bootstrap = f"127.0.0.1:{port}"
    running = start(port, tmp_path / "data")
    ensure_topics(Settings(), bootstrap, [TopicSpec(TOPIC, 4, 3600)])
    sender = producer(Settings(), bootstrap, linger_ms=1, request_timeout_ms=2_000, delivery_timeout_ms=4_000)
    futures: list[tuple[bytes, Any]] = []

    def send() -> None:
        value = b"%d" % len(futures)
        futures.append((value, sender.send(TOPIC, value)))
        time.sleep(0.0005)

    until = time.monotonic() + PATIENCE_S
    while sum(future.succeeded() for _, future in futures[:ACKNOWLEDGED]) < ACKNOWLEDGED:
        assert time.monotonic() < until
        send()
    os.kill(running.pid if whom == "guard" else child_of(running), signal.SIGTERM)
    for _ in range(SENT_AFTER):
        send()
    assert running.wait(timeout=PATIENCE_S) == 0
    again = start(port, tmp_path / "data")
    acknowledged = set()
    for value, future in futures:
        try:
            future.get(timeout=10)
        except KafkaError:
            continue
        acknowledged.add(value)
    sender.close(timeout=5)
    try:
        assert len(acknowledged) >= ACKNOWLEDGED
        assert acknowledged - read_all(bootstrap) == set()
    finally:
        again.terminate()
        again.wait(timeout=PATIENCE_S)


def test_the_broker_ends_with_its_guard(tmp_path: Path) -> None:
    running = start(free_port(), tmp_path / "data")
    broker = child_of(running)
    assert not termination_pending(broker)
    running.kill()
    running.wait()
    until = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{broker}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not Path(f"/proc/{broker}").exists()
