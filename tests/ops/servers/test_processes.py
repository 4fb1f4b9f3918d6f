from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.servers.processes import end_group, members, named, regions, resident_mb

STUBBORN = "trap '' TERM; sleep 300 & while true; do sleep 0.1; done"


def group(script: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["bash", "-c", script], start_new_session=True, stdout=subprocess.PIPE)


@pytest.fixture
def stubborn() -> Iterator[subprocess.Popen[bytes]]:
    process = group("echo up; " + STUBBORN)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    end_group(process.pid, within_s=0)
    process.wait()
    process.stdout.close()


def test_a_group_is_found_and_ended_whole(stubborn: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + 10
    while len(members(stubborn.pid)) < 2 and time.monotonic() < until_s:
        time.sleep(0.02)
    found = members(stubborn.pid)
    assert stubborn.pid in found
    assert len(found) >= 2
    assert os.getpid() not in found
    assert 0 < resident_mb(stubborn.pid) < 1000
    end_group(stubborn.pid, within_s=0.2)
    assert members(stubborn.pid) == []
    assert stubborn.wait(timeout=5) != 0


def test_a_group_that_is_gone_is_no_error() -> None:
    process = group("exit 0")
    process.wait()
    end_group(process.pid, within_s=0)
    assert members(process.pid) == []
    assert not named(process.pid, "bash")
    assert resident_mb(process.pid) == 0


def test_every_member_must_bear_the_name(stubborn: subprocess.Popen[bytes]) -> None:
    assert not named(stubborn.pid, "vllm")
    process = group("exec -a VLLM::Engine sleep 300")
    until_s = time.monotonic() + 10
    while not named(process.pid, "vllm") and time.monotonic() < until_s:
        time.sleep(0.02)
    assert named(process.pid, "vllm")
    end_group(process.pid, within_s=1)
    process.wait()


@pytest.mark.skipif(not Path("/dev/shm").exists(), reason="looks into Linux's shared memory")
def test_shared_memory_of_a_killed_group_is_removed() -> None:
    # Without the process that would clean up, as if it had been killed as well.
    code = (
        "import time\n"
        "from multiprocessing import resource_tracker, shared_memory\n"
        "resource_tracker.register = lambda *_: None\n"
        "made = shared_memory.SharedMemory(create=True, size=64)\n"
        "print(made.name, flush=True)\n"
        "time.sleep(300)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        region = Path("/dev/shm") / process.stdout.readline().strip()
        assert regions(process.pid) == {region}
        end_group(process.pid, within_s=0)
        assert not region.exists()
    finally:
        process.kill()
        process.wait()
