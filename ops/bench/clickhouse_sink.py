"""Rows per second of the sink from Kafka into ClickHouse, and what a steady stream of rows costs it.

    python -m ops.bench.clickhouse_sink [--clickhouse URL] [--kafka HOST:PORT] [--rows N]

Without `--clickhouse` the rows go into an embedded engine in a temporary folder, without `--kafka` through an
embedded broker. Rows are spread over the tables as a shop's traffic spreads them. Two runs: a backlog as fast
as it goes, and a paced stream. Processor time is that of the sink's process (the rows are made in another), so
with a server it does not hold the server's.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shlex
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import ExitStack
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

from clickhouse_connect.driver.client import Client

from ops.clickhouse.client import open_client
from ops.clickhouse.migrate import migrate
from ops.clickhouse.sink import Progress, run_sink
from ops.kafka import ensure_topics, producer
from ops.settings import Metrics, Settings
from ops.stack import embedded_broker
from ops.stack.broker_probe import wait_until_ready
from ops.stack.ports import free_port
from streams.rows import NIL_UUID, to_blocks
from streams.topics import METRICS_ROWS, TOPICS

#: Rows of each table in a page of ten results.
PAGE = {"queries": 1, "impressions": 10, "exposures": 1, "clicks": 1, "conversions": 0.1}


def make_row(table: str, randomness: random.Random) -> dict[str, Any]:
    """Return a row as the streams worker writes it, with an event id of its own."""

    def identifier() -> str:
        return str(uuid.UUID(int=randomness.getrandbits(128)))

    common: dict[str, Any] = {
        "event_id": identifier(),
        "query_id": identifier(),
        "client_id": f"shopper-{randomness.randrange(4000)}",
        "student_version": "lexical-1",
        "traffic_class": randomness.choice(("head", "torso", "tail")),
        "event_time": 1_760_000_000_000 + randomness.randrange(3_600_000),
        "version": 3,
    }
    if table == "exposures":
        return common | {"experiment": "ranking", "arm": randomness.choice(("control", "treatment"))}
    common |= {
        "application": "shop",
        "session_id": identifier(),
        "normalised_query": f"red running shoes size {randomness.randrange(36, 48)}",
        "arms": {"ranking": randomness.choice(("control", "treatment"))},
    }
    if table == "queries":
        return common | {"query": "Red running shoes", "latency_ms": 11.5, "fallback": False}
    common |= {"item_id": f"item-{randomness.randrange(20_000)}", "position": randomness.randrange(1, 11)}
    if table == "impressions":
        return common | {"score": round(randomness.random(), 4), "bid": 0.35}
    common |= {"impression_id": identifier(), "attribution": "impression", "delay_ms": 5400}
    if table == "clicks":
        return common
    return common | {"kind": "purchase", "impression_id": NIL_UUID, "revenue": 59.9, "quantity": 1}


def rows_of_page(block_rows: int) -> dict[str, int]:
    """Return how many rows of each table go with `block_rows` impressions."""
    return {table: max(1, round(block_rows * share / PAGE["impressions"])) for table, share in PAGE.items()}


def send_pages(kafka: str, *, pages: int, block_rows: int, seed: int, pace_rows_s: float) -> None:
    """Send `pages` times a block of each table, `pace_rows_s` rows a second if that is not 0."""
    target = producer(Settings(), kafka, batch_size=1_000_000)
    randomness = random.Random(seed)
    sent, started_s = 0, time.monotonic()
    for _ in range(pages):
        for table, count in rows_of_page(block_rows).items():
            for block in to_blocks(table, [make_row(table, randomness) for _ in range(count)]):
                target.send(METRICS_ROWS, value=block.lines, headers=block.headers())
                sent += block.rows
        if pace_rows_s:
            time.sleep(max(0.0, started_s + sent / pace_rows_s - time.monotonic()))
    target.flush()
    target.close()


class Run:
    """A sink in a thread of its own, and the processor time that this process uses while it runs."""

    def __init__(self, settings: Settings, bootstrap: str, client: Client) -> None:
        self.progress = Progress()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=run_sink,
            args=(settings, bootstrap, client),
            kwargs={"stop": self._stop, "on_progress": self._keep},
        )
        self._thread.start()

    def wait_for(self, client: Client, rows: int, *, timeout_s: float) -> None:
        """Return when that many rows are in the tables. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while (found := count_rows(client)) < rows:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise TimeoutError(f"expected {rows} rows in ClickHouse, got {found}: {self.progress}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the sink."""
        self._stop.set()
        self._thread.join()

    def _keep(self, progress: Progress) -> None:
        self.progress = progress


def count_rows(client: Client) -> int:
    """Return the rows that the tables of events hold, replaced ones included."""
    found = client.command(
        "SELECT sum(total_rows) FROM system.tables"
        " WHERE database = currentDatabase() AND name IN {tables:Array(String)}",
        parameters={"tables": list(PAGE)},
    )
    return int(str(found) or 0)


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kafka", help="bootstrap servers, without other traffic; default: embedded")
    parser.add_argument("--clickhouse", default="", help="a server's address; default: embedded")
    parser.add_argument("--rows", type=int, default=400_000, help="rows of the backlog")
    parser.add_argument("--pace", type=float, default=5000, help="rows per second of the steady stream")
    parser.add_argument("--seconds", type=float, default=20, help="length of the steady stream")
    parser.add_argument("--block-rows", type=int, default=300, help="impressions in a block")
    options = parser.parse_args()
    arguments = ["URL" if argument == options.clickhouse else argument for argument in sys.argv[1:]]
    print("command:", shlex.join(["python", "-m", "ops.bench.clickhouse_sink", *arguments]))
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}")
    with tempfile.TemporaryDirectory(prefix="clickhouse-bench-") as folder, ExitStack() as stack:
        settings = Settings(
            run_dir=Path(folder),
            clickhouse=options.clickhouse,
            metrics=Metrics(group=f"bench-{uuid.uuid4().hex[:8]}"),
        )
        if not options.kafka:
            port = free_port()
            command = embedded_broker.command(port=port, data_dir=Path(folder) / "broker")
            command = [sys.executable, "-m", "ops.stack.lifeline", *command]
            broker = stack.enter_context(subprocess.Popen(command, stdout=DEVNULL, stderr=DEVNULL))
            stack.callback(broker.terminate)
            options.kafka = f"127.0.0.1:{port}"
            wait_until_ready(settings, options.kafka, timeout_s=30)
        client = stack.enter_context(open_client(settings))
        watcher = stack.enter_context(open_client(settings))
        print(f"engine: {'server' if options.clickhouse else 'embedded'}, ClickHouse {client.server_version}")
        measure(settings, options, client, watcher)


def measure(settings: Settings, options: argparse.Namespace, client: Client, watcher: Client) -> None:
    """Fill the topic, empty it, then run the paced stream."""
    migrate(client)
    ensure_topics(settings, options.kafka, TOPICS)
    page_rows = sum(rows_of_page(options.block_rows).values())
    backlog, paced = (
        max(1, round(rows / page_rows)) for rows in (options.rows, options.pace * options.seconds)
    )

    def sender(pages: int, pace_rows_s: float) -> SpawnProcess:
        # A forked child of a process that holds the embedded engine would hang.
        process = get_context("spawn").Process(
            target=send_pages,
            args=(options.kafka,),
            kwargs={
                "pages": pages,
                "block_rows": options.block_rows,
                "seed": time.time_ns(),
                "pace_rows_s": pace_rows_s,
            },
        )
        process.start()
        return process

    before = count_rows(watcher)
    sender(backlog, 0).join()
    run = Run(settings, options.kafka, client)
    try:
        report("backlog", run, watcher, before=before, rows=backlog * page_rows, wait_s=0)
        before = count_rows(watcher)
        process = sender(paced, options.pace)
        report("paced", run, watcher, before=before, rows=paced * page_rows, wait_s=options.seconds + 1)
        process.join()
    finally:
        run.stop()
    print("sink:", ", ".join(f"{name} {value:.0f}" for name, value in run.progress.counters().items()))


def report(name: str, run: Run, watcher: Client, *, before: int, rows: int, wait_s: float) -> None:
    """Wait until `rows` more rows are in and print what that cost; nothing is asked for `wait_s` seconds."""
    inserts = run.progress.inserts
    started_s, cpu_started_s = time.monotonic(), time.process_time()
    time.sleep(wait_s)
    run.wait_for(watcher, before + rows, timeout_s=300)
    elapsed_s, cpu_s = time.monotonic() - started_s, time.process_time() - cpu_started_s
    inserts = run.progress.inserts - inserts
    print(
        f"{name}: {rows} rows in {elapsed_s:.2f} s = {rows / elapsed_s:,.0f} rows/s, {inserts} inserts,"
        f" {cpu_s / elapsed_s:.2f} cores, {cpu_s / rows * 100_000:.2f} CPU s per 100k rows"
    )


if __name__ == "__main__":
    main()
