"""Events per second of the streams worker, end to end into ClickHouse, beside what does nothing.

In one run, on one broker, over the same backlog: a bare consumer, a bare Faust agent, one streams worker with the
metrics process behind it, two workers. Prints CPU per event by process and the worker's memory over time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiokafka
import faust
import uvloop

from ops import endpoints, heartbeat
from ops.bench.machine import announce, rss_mb
from ops.bench.traffic import expected_counts, records
from ops.cli import dashboard_client
from ops.cli.context import CommandError
from ops.kafka import ensure_topics, producer
from ops.settings import Settings, load
from ops.stack.broker_probe import wait_until_ready
from ops.stack.ports import free_port
from streams.topics import TOPICS, UBI_EVENTS, UBI_QUERIES

ROOT = Path(__file__).resolve().parents[2]
TICKS = os.sysconf("SC_CLK_TCK")
#: Rates are taken between these shares of the backlog, so that neither start nor end counts.
FROM_SHARE, TO_SHARE = 0.1, 0.9
GIVE_UP_S = 1800
DAY_MS = 86_400_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=120_000)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--skip-bare", action="store_true")
    parser.add_argument("--days", type=float, default=0.04, help="event times are spread over so many days")
    arguments = parser.parse_args()
    announce("ops.bench.throughput")
    per_page = sum(expected_counts(1000).values()) / 1000
    pages = round(arguments.events / per_page)
    if not arguments.skip_bare:
        with (
            tempfile.TemporaryDirectory() as folder,
            backlog(Path(folder), pages, days=arguments.days) as (bootstrap, total),
        ):
            bare("bare consumer (aiokafka)", asyncio.run(consume(bootstrap, total)))
            bare("bare Faust agent", in_process("agent", bootstrap, total))
    rates = {}
    for workers in arguments.workers:
        with (
            tempfile.TemporaryDirectory() as folder,
            backlog(Path(folder), pages, days=arguments.days) as (bootstrap, total),
        ):
            rates[workers] = pipeline(Path(folder), bootstrap, total, pages, workers)
    if {1, 2} <= rates.keys():
        print(f"two workers / one: {rates[2] / rates[1]:.2f}")


def bare(name: str, events_per_s: float) -> None:
    """Print a rate to compare with."""
    print(f"{name:28s} {events_per_s:9,.0f} events/s", flush=True)


@contextmanager
def backlog(folder: Path, pages: int, *, days: float) -> Iterator[tuple[str, int]]:
    """Start a broker that already holds `pages` pages; yield its address and the number of events."""
    spread_ms = int(days * DAY_MS)
    port = free_port()
    bootstrap = f"127.0.0.1:{port}"
    with (folder / "broker.log").open("wb") as log:
        broker = subprocess.Popen(
            [sys.executable, "-m", "ops.stack.broker_guard", str(port), str(folder / "broker")],
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )
    try:
        settings = Settings()
        wait_until_ready(settings, bootstrap, timeout_s=30)
        ensure_topics(settings, bootstrap, TOPICS)
        client = producer(settings, bootstrap, batch_size=1 << 18, linger_ms=50)
        total = 0
        start_ms = int(time.time() * 1000) - spread_ms - 120_000
        for topic, key, value in records(pages, seed=1, start_ms=start_ms, spread_ms=spread_ms):
            client.send(topic, value, key=key)
            total += 1
        client.flush()
        client.close()
        yield bootstrap, total
    finally:
        broker.terminate()
        broker.wait(timeout=30)


async def consume(bootstrap: str, total: int) -> float:
    """Return the events/s of a consumer that only counts."""
    consumer = aiokafka.AIOKafkaConsumer(
        UBI_QUERIES, UBI_EVENTS, bootstrap_servers=bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    seen, began = 0, time.perf_counter()
    while seen < total:
        found = await consumer.getmany(timeout_ms=1000)
        seen += sum(len(batch) for batch in found.values())
    rate = seen / (time.perf_counter() - began)
    await consumer.stop()
    return rate


def in_process(what: str, bootstrap: str, total: int) -> float:
    """Return what a process of its own prints: Faust leaves traces in the one it ran in."""
    code = f"from ops.bench import throughput; throughput.{what}({bootstrap!r}, {total})"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=GIVE_UP_S,
            check=False,
        )
    return float(done.stdout.split()[-1])


def agent(bootstrap: str, total: int) -> None:
    """Print the events/s of a Faust agent that only counts, and end the process."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    app = faust.App(
        "bare",
        broker=f"kafka://{bootstrap}",
        web_enabled=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        stream_buffer_maxsize=8192,
        broker_max_poll_records=2000,
        datadir=Path.cwd(),
    )
    source = app.topic(UBI_QUERIES, UBI_EVENTS, key_serializer="raw", value_serializer="raw")

    async def count(stream: faust.StreamT[bytes]) -> None:
        seen, began = 0, 0.0
        async for _ in stream:
            began = began or time.perf_counter()
            seen += 1
            if seen == total:
                print(seen / (time.perf_counter() - began), flush=True)
                os._exit(0)

    app.agent(source)(count)

    async def run() -> None:
        await app.start()
        await asyncio.Event().wait()

    asyncio.run(run())


class Process:
    """A part of the stack, and what it has used so far."""

    def __init__(self, name: str, environment: dict[str, str], folder: Path) -> None:
        with (folder / f"{name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ops.stack.part", name],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def cpu_s(self) -> float:
        """Return the CPU seconds used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


def pipeline(folder: Path, bootstrap: str, total: int, pages: int, workers: int) -> float:
    """Run `workers` streams workers and the metrics process over the backlog; print and return events/s."""
    run_dir = folder / "run"
    page = f"http://127.0.0.1:{free_port()}"
    endpoints.write(run_dir, endpoints.Endpoints(kafka=bootstrap, dashboard=page))
    environment = os.environ | {"RELEVANCE_RUN_DIR": str(run_dir)}
    settings = load({"RELEVANCE_RUN_DIR": str(run_dir)})
    parts = {"metrics": Process("metrics", environment, folder)}
    # Static members that all are there before the first one takes every partition.
    parts |= {f"streams-{n}": Process(f"streams-{n}", environment, folder) for n in range(1, workers + 1)}
    try:
        return _watch(settings, parts, total, pages, workers)
    finally:
        for part in parts.values():
            part.process.kill()
            part.process.wait()


def _watch(settings: Settings, parts: dict[str, Process], total: int, pages: int, workers: int) -> float:
    names = [name for name in parts if name.startswith("streams")]
    samples: list[tuple[float, float, dict[str, float], list[float]]] = []
    stored = _stored(settings)
    expected = sum(expected_counts(pages).values())
    until = time.monotonic() + GIVE_UP_S
    while time.monotonic() < until:
        time.sleep(1)
        beats = [heartbeat.read(settings.run_dir, name) for name in names]
        events = sum(beat.counters.get("events", 0) for beat in beats if beat)
        samples.append(
            (
                max((beat.at_s for beat in beats if beat), default=0.0),
                events,
                {name: part.cpu_s() for name, part in parts.items()},
                [rss_mb(parts[name].process.pid) for name in names],
            )
        )
        if events >= total:
            break
    steady = [s for s in samples if FROM_SHARE * total <= s[1] <= TO_SHARE * total]
    if len(steady) < 2:
        raise SystemExit(f"too few events to measure: {total}; use more with --events")
    first, last = steady[0], steady[-1]
    passed = last[1] - first[1]
    rate = passed / (last[0] - first[0])
    done_s = samples[-1][0]
    while time.monotonic() < until and stored() < expected:
        time.sleep(0.5)
    behind_s = time.time() - done_s
    in_store = stored()
    print(f"{workers} streams worker(s) to store   {rate:9,.0f} events/s", flush=True)
    print(
        f"  in ClickHouse {in_store:,} of {expected:,} events, the last {behind_s:.1f} s after the worker was done"
    )
    for name in parts:
        used_us = (last[2][name] - first[2][name]) / passed * 1e6
        print(f"  {name:10s} {used_us:6.0f} us of CPU per event")
    for number, name in enumerate(names):
        curve = [sample[3][number] for sample in samples[:: max(1, len(samples) // 8)]]
        print(f"  {name} memory MB over the run: {' '.join(f'{value:.0f}' for value in curve)}")
    return rate


def _stored(settings: Settings) -> Callable[[], int]:
    kinds = tuple(expected_counts(1))

    def count() -> int:
        try:
            value = dashboard_client.get(settings, "/api/overview", timeout_s=10)["store"]["value"]
        except CommandError:
            return 0
        return sum(int(value["totals"][kind]) for kind in kinds) if value else 0

    return count


if __name__ == "__main__":
    main()
