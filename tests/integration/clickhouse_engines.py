"""The two kinds of ClickHouse that the tests run against, and a broker that a test has to itself."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from ops.clickhouse.client import open_client
from ops.settings import Metrics, Settings
from ops.stack import embedded_broker
from ops.stack.broker_probe import wait_until_ready
from ops.stack.lifeline import PARENT_VARIABLE
from ops.stack.ports import free_port
from tests.integration.clickhouse_server import ROOT, ClickHouseServer, ServerUnavailableError

#: A program that says it is ready to be killed with this process.
LIFELINE = [sys.executable, "-m", "ops.stack.lifeline"]


@dataclass
class Engine:
    """An empty database in one of the engines; `settings` lead to it."""

    name: str
    settings: Settings
    clients: ExitStack

    def open(self) -> Client:
        """Open a client that is closed with the test."""
        return self.clients.enter_context(open_client(self.settings))

    def environment(self) -> dict[str, str]:
        """Return the environment of a process that shall use this engine with these settings."""
        return os.environ | {
            PARENT_VARIABLE: str(os.getpid()),
            "RELEVANCE_RUN_DIR": str(self.settings.run_dir),
            "RELEVANCE_CLICKHOUSE": self.settings.clickhouse,
            "RELEVANCE_METRICS__GROUP": self.settings.metrics.group,
            "RELEVANCE_METRICS__FLUSH_WITHIN_S": str(self.settings.metrics.flush_within_s),
        }


@pytest.fixture(scope="session")
def clickhouse_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    """A real server over HTTP; skips where it can't be had."""
    server = ClickHouseServer(tmp_path_factory.mktemp("clickhouse"))
    try:
        server.start()
    except ServerUnavailableError as error:
        pytest.skip(f"no real ClickHouse server: {error}")
    yield server
    server.kill()


@pytest.fixture(params=["embedded", "server"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine with an empty database, once for each kind."""
    metrics = Metrics(group=f"sink-{uuid.uuid4().hex[:8]}", flush_within_s=0.2)
    with ExitStack() as clients:
        if request.param == "embedded":
            yield Engine("embedded", Settings(run_dir=tmp_path / "run", metrics=metrics), clients)
            return
        server: ClickHouseServer = request.getfixturevalue("clickhouse_server")
        database = f"test_{uuid.uuid4().hex[:12]}"
        with open_client(Settings(clickhouse=server.url())) as client:
            client.command(f"CREATE DATABASE {database}")
        url = server.url(database=database)
        yield Engine("server", Settings(run_dir=tmp_path / "run", clickhouse=url, metrics=metrics), clients)


class Broker:
    """An embedded broker with its data in a folder, on one port for all its starts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start and wait until it answers."""
        command = embedded_broker.command(port=self._port, data_dir=self._folder / "data")
        self._process = subprocess.Popen(
            [*LIFELINE, *command],
            cwd=ROOT,
            env=os.environ | {PARENT_VARIABLE: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until_ready(Settings(), self.address, timeout_s=90)

    def stop(self) -> None:
        """Stop with SIGTERM, which keeps all data."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=60)
            self._process = None


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker without topics, for this test alone."""
    broker = Broker(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()
