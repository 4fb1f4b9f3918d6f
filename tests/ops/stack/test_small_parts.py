"""Ports, plan, logs, lifeline and the embedded broker's command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ops.settings import Metrics, Settings, Stack, TeacherServer, TritonServer
from ops.stack import addresses, embedded_broker, logs, plan, ports
from ops.stack.embedded_broker import BrokerSetupError
from ops.stack.lifeline import PARENT_VARIABLE

ROOT = Path(__file__).resolve().parents[3]


def test_a_taken_port_is_passed_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        assert not ports.is_free(taken)
        assert ports.free_port(taken) != taken
    assert ports.free_port(taken) == taken
    assert ports.free_port(taken, taken=frozenset({taken})) != taken


def test_stages_start_broker_first_and_workers_together() -> None:
    stages = plan.stages(plan.parts(Settings(stack=Stack(workers=3))))
    names = [[part.name for part in stage] for stage in stages]
    assert names == [["broker"], ["streams-1", "streams-2", "streams-3"], ["metrics"], ["features", "shop"]]


def test_no_broker_and_no_shop_where_they_are_elsewhere() -> None:
    names = [part.name for part in plan.parts(Settings(kafka="kafka-1:9092"), shop=False)]
    assert names == ["streams-1", "metrics", "features"]
    without = Settings(kafka="kafka-1:9092", stack=Stack(features=False))
    assert [part.name for part in plan.parts(without, shop=False)] == ["streams-1", "metrics"]


def test_sampler_and_teacher_workers_start_where_they_are_asked_for() -> None:
    asked = Settings.model_validate(
        {"stack": {"sampler": True, "teacher_workers": True}, "teacher_worker": {"workers": 2}}
    )
    names = [part.name for part in plan.parts(asked)]
    assert [name for name in names if name not in {part.name for part in plan.parts(Settings())}] == [
        "sampler",
        "teacher-worker-1",
        "teacher-worker-2",
    ]


def test_the_two_servers_start_where_they_are_asked_for_unless_others_have_an_address() -> None:
    asked = Stack(triton=True, teacher_server=True)
    stages = plan.stages(plan.parts(Settings(stack=asked)))
    names = [[part.name for part in stage] for stage in stages]
    assert names[2:] == [["metrics", "triton"], ["teacher-server", "features", "shop"]]
    elsewhere = Settings(stack=asked, triton="triton-1:8001", teacher_url="http://teacher-1:8000/v1")
    assert plan.parts(elsewhere) == plan.parts(Settings())


def test_triton_is_waited_for_and_the_teacher_is_not() -> None:
    found = plan.parts(Settings(stack=Stack(triton=True, teacher_server=True)))
    limits = {part.name: part.start_within_s for part in found}
    assert [name for name, limit in limits.items() if limit is None] == ["teacher-server"]
    assert (limits["triton"] or 0) > TritonServer().start_within_s


def test_teacher_and_trainer_give_way_to_what_shoppers_wait_for() -> None:
    settings = Settings(stack=Stack(triton=True, teacher_server=True, teacher_workers=True, trainer=True))
    lower = {part.name: plan.niceness(settings, part.name) for part in plan.parts(settings)}
    assert {name for name, by in lower.items() if by} == {"teacher-server", "teacher-worker-1", "trainer"}
    assert lower["teacher-server"] > lower["trainer"], "an update is short, the teacher never ends"
    equal = Settings(stack=Stack(gives_way=False))
    assert plan.niceness(equal, "trainer") == 0


def test_the_servers_ports_are_free_ones_and_stay_the_same() -> None:
    said: list[str] = []
    asked = Stack(triton=True, teacher_server=True, broker_port=ports.free_port())
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        settings = Settings(
            stack=asked,
            metrics=Metrics(port=ports.free_port()),
            triton_server=TritonServer(port=taken),
            teacher_server=TeacherServer(port=taken),
        )
        found = addresses.choose(settings, said.append)
    triton, teacher = found.triton.rpartition(":")[2], found.teacher.removesuffix("/v1").rpartition(":")[2]
    assert len({str(taken), triton, teacher}) == 3
    assert [line.partition(":")[0] for line in said] == [f"port {taken} is taken"] * 2
    assert addresses.variables(found) == {
        "RELEVANCE_TRITON_SERVER__PORT": triton,
        "RELEVANCE_TEACHER_SERVER__PORT": teacher,
    }


def test_without_servers_they_have_no_addresses() -> None:
    found = addresses.choose(Settings(), lambda line: None)
    assert (found.triton, found.teacher, addresses.variables(found)) == ("", "", {})


def test_the_trainer_starts_where_it_is_asked_for() -> None:
    asked = Settings(stack=Stack(trainer=True))
    assert {part.name for part in plan.parts(asked)} - {part.name for part in plan.parts(Settings())} == {
        "trainer"
    }


def test_stopping_leaves_the_broker_its_time_within_ten_seconds() -> None:
    stages = plan.stages(plan.parts(Settings()))
    before_the_broker_s = plan.STAGE_ALONE_S * (len(stages) - 1)
    assert before_the_broker_s + plan.BROKER_STOPS_WITHIN_S < plan.STOP_WITHIN_S < 10


def test_the_end_of_a_log_can_not_steer_the_terminal(tmp_path: Path) -> None:
    path = logs.path_of(tmp_path, "shop")
    assert logs.tail(path, 5) == []
    path.parent.mkdir()
    path.write_bytes(b"first\n" + b"x" * 100_000 + b"\nred \x1b[31m\xff\nlast\n")
    assert logs.tail(path, 2) == ["red  [31m�", "last"]


def test_the_end_of_a_log_is_its_last_error(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("start\nTraceback\n  line 1\nFileNotFoundError: x\n" + "stopping\n" * 50)
    assert logs.tail(path, 2) == ["  line 1", "FileNotFoundError: x"]


def test_command_of_the_embedded_broker() -> None:
    command = embedded_broker.command(port=29193, data_dir=Path("/data"))
    assert command[1:] == ["start", "--only", "kafka", "--kafka-port", "29193", "--data-dir", "/data"]
    assert os.access(command[0], os.X_OK)


def test_a_missing_embedded_broker_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "noida_db", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BrokerSetupError, match="make setup"):
        embedded_broker.binary()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_child_ends_with_a_parent_that_is_killed() -> None:
    child = "print('up', flush=True); import time; time.sleep(60)"
    parent = (
        "import os, subprocess, sys\n"
        f"os.environ[{PARENT_VARIABLE!r}] = str(os.getpid())\n"
        f"subprocess.run([sys.executable, '-m', 'ops.stack.lifeline', sys.executable, '-c', {child!r}])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGKILL)
        # The pipe ends when the last process that holds it has ended.
        assert process.stdout.read() == ""


def test_a_child_of_another_parent_does_not_start() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ops.stack.lifeline", "/bin/true"],
        cwd=ROOT,
        env=os.environ | {PARENT_VARIABLE: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "has ended" in done.stderr
