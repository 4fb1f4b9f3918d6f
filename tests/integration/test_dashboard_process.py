"""The `metrics` part as a process: rows from the broker to the page, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ops import heartbeat
from ops.kafka import ensure_topics, producer
from ops.settings import Settings
from ops.stack.ports import free_port
from streams.rows import to_blocks
from streams.topics import METRICS_ROWS, TOPICS
from tests.integration import dashboard_traffic as traffic

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import signal, sys, threading
from ops.metrics_process import run
from ops.settings import load
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
run(load(), sys.argv[1], port=int(sys.argv[2]), stop=stop)
"""
START_WITHIN_S = 120


class Metrics:
    """The process under test."""

    def __init__(self, bootstrap: str, run_dir: Path) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.run_dir = run_dir
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, bootstrap, str(port)],
            cwd=ROOT,
            env=os.environ
            | {"RELEVANCE_RUN_DIR": str(run_dir), "RELEVANCE_METRICS__GROUP": f"metrics-{port}"},
        )

    def overview(self) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(f"{self.url}/api/overview", timeout=30).raise_for_status().json()
        return answer

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_WITHIN_S
        while (beat := heartbeat.read(self.run_dir, "metrics")) is None or beat.state != "ready":
            assert self.process.poll() is None, "the process ended"
            assert time.monotonic() < deadline, f"not ready within {START_WITHIN_S} s: {beat}"
            time.sleep(0.1)


@pytest.fixture
def metrics(broker: str, tmp_path: Path) -> Iterator[Metrics]:
    ensure_topics(Settings.model_validate({}), broker, TOPICS)
    started = Metrics(broker, tmp_path)
    try:
        started.wait_until_ready()
        yield started
    finally:
        started.process.kill()
        started.process.wait()


def test_rows_from_the_broker_reach_the_page_and_a_viewer_does_not_hold_up_the_end(
    metrics: Metrics, broker: str
) -> None:
    now_ms = time.time_ns() // 1_000_000
    rows = traffic.make(
        experiment="ranking", seed=5, searches=300, start_ms=now_ms - 60_000, end_ms=now_ms, uplift=0.2
    )
    sender = producer(Settings.model_validate({}), broker)
    for table, lines in rows.items():
        for block in to_blocks(table, lines):
            sender.send(METRICS_ROWS, value=block.lines, headers=block.headers())
    sender.flush()
    deadline = time.monotonic() + 60
    wanted = {"queries": 300, "impressions": 2400, "clicks": len(rows["clicks"])}
    seen: dict[str, Any] = {}
    while not wanted.items() <= seen.items():
        assert time.monotonic() < deadline, f"expected {wanted}, the page says {seen}"
        time.sleep(0.5)
        seen = metrics.overview()["store"]["value"]["totals"]
    lag = {group["name"]: group for group in metrics.overview()["lag"]}
    assert lag["metrics"]["records"] is not None, lag["metrics"]["error"]
    shown = 0
    while shown != 2400:
        assert time.monotonic() < deadline, f"expected 2400 impressions in the report, it says {shown}"
        time.sleep(0.5)
        report = httpx.get(f"{metrics.url}/api/experiment", timeout=30).raise_for_status().json()
        shown = sum(arm["impressions"] for arm in report["arms"])
    with httpx.stream("GET", f"{metrics.url}/api/live", timeout=30) as live:
        first = next(chunk for chunk in live.iter_text() if "data:" in chunk)
        assert '"at_ms"' in first
        metrics.process.send_signal(signal.SIGTERM)
        # A page that is still open would hold it up for ever.
        assert metrics.process.wait(60) == 0
    beat = heartbeat.read(metrics.run_dir, "metrics")
    assert beat is not None
    assert beat.state == "stopping"


def test_a_second_process_on_the_same_store_says_who_holds_it(metrics: Metrics, broker: str) -> None:
    second = subprocess.run(
        [sys.executable, "-c", PROGRAM, broker, str(free_port())],
        cwd=ROOT,
        env=os.environ | {"RELEVANCE_RUN_DIR": str(metrics.run_dir)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode != 0
    assert f"in use by process {metrics.process.pid}" in second.stderr
