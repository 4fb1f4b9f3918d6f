"""Processes that outlived their stack are found by run directory, and only those."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ops.stack import leftovers
from ops.stack.lifeline import PARENT_VARIABLE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SLEEP = "print('up', flush=True); import time; time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP


class Sleepers:
    def __init__(self, exits: ExitStack) -> None:
        self._exits = exits

    def start(self, code: str, **variables: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=os.environ | variables, stdout=subprocess.PIPE, text=True
        )
        self._exits.callback(process.wait)
        self._exits.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        self._exits.callback(process.stdout.close)
        return process


@pytest.fixture
def sleepers() -> Iterator[Sleepers]:
    with ExitStack() as exits:
        yield Sleepers(exits)


def test_only_parts_of_this_run_directory_are_ended(tmp_path: Path, sleepers: Sleepers) -> None:
    mine = sleepers.start(SLEEP, RELEVANCE_RUN_DIR=str(tmp_path), **{PARENT_VARIABLE: "1"})
    sleepers.start(SLEEP, RELEVANCE_RUN_DIR=f"{tmp_path}2", **{PARENT_VARIABLE: "1"})
    sleepers.start(SLEEP, RELEVANCE_RUN_DIR=str(tmp_path))
    assert leftovers.find(tmp_path) == [mine.pid]
    assert leftovers.end(tmp_path, within_s=5) == [mine.pid]
    assert leftovers.find(tmp_path) == []
    assert len(leftovers.find(Path(f"{tmp_path}2"))) == 1


def test_one_that_ignores_the_request_is_killed(tmp_path: Path, sleepers: Sleepers) -> None:
    stubborn = sleepers.start(STUBBORN, RELEVANCE_RUN_DIR=str(tmp_path), **{PARENT_VARIABLE: "1"})
    leftovers.end(tmp_path, within_s=0.2)
    assert stubborn.wait(timeout=5) == -9
