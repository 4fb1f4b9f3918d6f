"""One stack per run directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ops.stack import run_lock
from ops.stack.run_lock import AlreadyRunningError, RunLock

ROOT = Path(__file__).resolve().parents[3]
HOLD = "import sys, time; from pathlib import Path; from ops.stack.run_lock import RunLock\n"
HOLD += "with RunLock(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"


def test_the_holder_is_known_and_nothing_is_left(tmp_path: Path) -> None:
    assert run_lock.holder(tmp_path) is None
    with RunLock(tmp_path):
        assert run_lock.holder(tmp_path) == os.getpid()
    assert run_lock.holder(tmp_path) is None
    assert not run_lock.path_in(tmp_path).exists()


def test_a_second_holder_is_told_the_first(tmp_path: Path) -> None:
    with (
        RunLock(tmp_path),
        pytest.raises(AlreadyRunningError, match=rf"pid {os.getpid()}\): stop it with `relevance down`"),
        RunLock(tmp_path),
    ):
        pass


def test_a_holder_killed_leaves_the_lock_free(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert run_lock.holder(tmp_path) == process.pid
        process.send_signal(signal.SIGKILL)
    assert run_lock.path_in(tmp_path).exists()
    with RunLock(tmp_path):
        assert run_lock.holder(tmp_path) == os.getpid()
