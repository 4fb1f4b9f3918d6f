from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ops.servers.processes import end_group
from ops.servers.steps import ROOT, PreparationError, StoppedError, locked, run_step


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def step(script: str, *, stop: threading.Event | None = None) -> None:
    run_step(["bash", "-c", script], environment=os.environ, what="the thing", mend="mend it", stop=stop)


def test_a_failed_step_says_what_and_how_to_mend_it() -> None:
    step("true")
    with pytest.raises(PreparationError, match=r"the thing could not be made \(exit status 3.*mend it"):
        step("exit 3")


def test_a_stopped_step_leaves_no_grandchild(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    stop = threading.Event()

    def ask_when_it_runs() -> None:
        until_s = time.monotonic() + 20
        while time.monotonic() < until_s and not (pid_file.exists() and pid_file.read_text().strip()):
            time.sleep(0.02)
        stop.set()

    asking = threading.Thread(target=ask_when_it_runs)
    asking.start()
    with pytest.raises(StoppedError, match="the thing"):
        step(f"sleep 300 & echo $! > {pid_file}; wait", stop=stop)
    asking.join()
    assert not alive(int(pid_file.read_text()))


def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    lock = tmp_path / "folder" / "lock"
    code = (
        "import sys, pathlib\n"
        "from ops.servers.steps import locked\n"
        "with locked(pathlib.Path(sys.argv[1]), say=lambda line: print(line, flush=True), what='it'):\n"
        "    print('in', flush=True)\n"
    )
    with locked(lock, say=print, what="it"):
        other = subprocess.Popen(
            [sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert other.stdout is not None
        assert other.stdout.readline() == "waiting for another process that makes it\n"
    assert other.communicate(timeout=20)[0] == "in\n"
    assert other.returncode == 0


def test_waiting_for_a_lock_can_be_stopped(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with (
        locked(tmp_path / "lock", say=print, what="it"),
        pytest.raises(StoppedError, match="it"),
        locked(tmp_path / "lock", say=print, what="it", stop=stop),
    ):
        pass


def test_a_step_that_outlives_its_maker_keeps_the_lock(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys\n"
        "from ops.servers.steps import locked, run_step\n"
        "with locked(pathlib.Path(sys.argv[1]), say=print, what='it') as lock:\n"
        "    step = ['bash', '-c', 'trap \"\" TERM; echo $$; sleep 300; true']\n"
        "    run_step(step, environment=os.environ, what='it', mend='', lock=lock)\n"
    )
    lock = tmp_path / "lock"
    maker = subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert maker.stdout is not None
    step_group = int(maker.stdout.readline())
    maker.kill()
    maker.wait()
    maker.stdout.close()
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError), locked(lock, say=print, what="it", stop=stop):
        pass
    end_group(step_group, within_s=1)
    with locked(lock, say=print, what="it"):
        pass
