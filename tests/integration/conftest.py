"""Servers that the integration tests share."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from ops.clickhouse.client import open_client
from ops.clickhouse.migrate import migrate
from ops.settings import Settings
from ops.stack.broker_probe import wait_until_ready
from ops.stack.lifeline import PARENT_VARIABLE
from ops.stack.ports import free_port

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start an embedded broker on a free port and yield its bootstrap address, host:port."""
    with running_broker(tmp_path_factory.mktemp("broker")) as bootstrap:
        yield bootstrap


@pytest.fixture
def empty_broker(tmp_path: Path) -> Iterator[str]:
    """The same for one test alone: for what reads all that a topic holds."""
    with running_broker(tmp_path / "broker") as bootstrap:
        yield bootstrap


@contextlib.contextmanager
def running_broker(folder: Path) -> Iterator[str]:
    """Run a broker with its data in `folder` and yield its bootstrap address."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    with (folder / "broker.log").open("wb") as log:
        # The guard ends with a test run that is killed, and the broker with the guard.
        process = subprocess.Popen(
            [sys.executable, "-m", "ops.stack.broker_guard", str(port), str(folder / "data")],
            cwd=ROOT,
            env=os.environ | {PARENT_VARIABLE: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    bootstrap = f"127.0.0.1:{port}"
    try:
        wait_until_ready(Settings(), bootstrap, timeout_s=90)
        yield bootstrap
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def embedded_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Open the embedded ClickHouse with all its tables. A process can hold one folder only, so all tests share
    it, and each empties the tables that it writes to."""
    client = open_client(Settings.model_validate({}), path=tmp_path_factory.mktemp("clickhouse"))
    migrate(client)
    yield client
    client.close()
