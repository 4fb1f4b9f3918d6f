"""The watchdog, with a small HTTP server in vLLM's place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from ops.servers import processes, server_process
from ops.servers.keeping import ServerError
from ops.servers.steps import ROOT
from ops.servers.voice import Voice
from ops.settings import Settings, Teacher, TeacherServer
from ops.stack.ports import free_port
from ops.stack.run_lock import RunLock
from teacher.probe import ProbeError, ProbeReport
from teacher.serving import address, server
from teacher.serving.leftovers import NAME, end_leftovers
from teacher.serving.server import refuse_open_door, serve

#: Answers /health with 200, keeps a child as vLLM keeps its engine, and ends when told.
STAND_IN = """
import http.server, subprocess, sys
if sys.argv[2] == "fail":
    sys.exit("ValueError: no such model")
subprocess.Popen(["sleep", "300"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Scene:
    """A server under test in this thread, watched from another one."""

    def __init__(self, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = Settings(
            run_dir=run_dir, teacher_server=TeacherServer(port=free_port(), start_within_s=30)
        )
        self.behaviour = "serve"
        self.stops_within_s = 8.0
        self.stop = threading.Event()
        self.said: list[str] = []
        self.voice = Voice(say=self.said.append, waiting=lambda line: None)
        self.failures: list[Exception] = []
        monkeypatch.setattr(server, "ensure_environment", lambda *_, **__: Path(sys.executable))
        monkeypatch.setattr(server, "model_to_serve", lambda *_, **__: "model")
        monkeypatch.setattr(server, "server_command", self.command)
        monkeypatch.setattr(server, "_probe", self.probe)

    def command(self, settings: Settings, *, python: Path, model: str, port: int) -> list[str]:
        return [str(python), "-c", STAND_IN, str(port), self.behaviour]

    async def probe(self, url: str, teacher: Teacher) -> ProbeReport:
        if self.behaviour == "unfit":
            raise ProbeError(["no log-probabilities"])
        return ProbeReport(teacher_id="teacher@1", endpoints=())

    def serve(self, watcher: Callable[[Scene], None]) -> None:
        def watch() -> None:
            try:
                watcher(self)
            except (AssertionError, OSError) as error:
                self.failures.append(error)
            finally:
                self.stop.set()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            serve(self.settings, stop=self.stop, voice=self.voice, stops_within_s=self.stops_within_s)
        finally:
            self.stop.set()
            thread.join()
        if self.failures:
            raise self.failures[0]

    def ready(self, *, other_than: int = 0) -> address.TeacherAddress:
        until_s = time.monotonic() + 30
        while time.monotonic() < until_s:
            found = address.read(self.settings.run_dir)
            if found and found.pid != other_than:
                return found
            time.sleep(0.05)
        raise TimeoutError("the server did not get ready")


def until_stopped(scene: Scene) -> None:
    scene.stop.wait(60)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


def test_it_serves_until_it_is_told_to_stop_and_leaves_nothing(scene: Scene) -> None:
    seen: list[address.TeacherAddress] = []

    def watch(scene: Scene) -> None:
        seen.append(scene.ready())
        assert len(processes.members(seen[0].pid)) == 2

    scene.serve(watch)
    assert seen[0].url == f"http://127.0.0.1:{scene.settings.teacher_server.port}/v1"
    assert address.read(scene.settings.run_dir) is None
    assert processes.members(seen[0].pid) == []
    assert any(line.startswith("ready") and "teacher@1" in line for line in scene.said)


def test_one_that_is_killed_is_started_again_on_the_same_port(scene: Scene) -> None:
    def watch(scene: Scene) -> None:
        first = scene.ready()
        os.kill(first.pid, signal.SIGKILL)
        second = scene.ready(other_than=first.pid)
        assert second.url == first.url
        # The killed one's child as well.
        assert processes.members(first.pid) == []

    scene.serve(watch)
    assert any("ended with status -9; it is started again" in line for line in scene.said)


def test_one_that_hangs_is_started_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HEALTH_EVERY_S": 0.1, "HEALTH_TIMEOUT_S": 0.2, "HANGS_AFTER_S": 0.5}.items():
        monkeypatch.setattr(server, name, value)
    scene.stops_within_s = 0.5

    def watch(scene: Scene) -> None:
        first = scene.ready()
        os.kill(first.pid, signal.SIGSTOP)
        scene.ready(other_than=first.pid)

    scene.serve(watch)
    assert any("has given no sign of health" in line for line in scene.said)


def test_a_failed_start_quotes_the_log(scene: Scene) -> None:
    scene.behaviour = "fail"
    with pytest.raises(ServerError, match=r"(?s)ended with status 1.*ValueError: no such model"):
        scene.serve(until_stopped)
    assert address.read(scene.settings.run_dir) is None


def test_an_unfit_model_is_not_offered(scene: Scene) -> None:
    scene.behaviour = "unfit"
    with pytest.raises(ProbeError, match="no log-probabilities"):
        scene.serve(until_stopped)
    assert address.read(scene.settings.run_dir) is None


def test_only_one_runs_in_a_run_directory(scene: Scene) -> None:
    with (
        RunLock(address.folder_in(scene.settings.run_dir)),
        pytest.raises(ServerError, match=rf"already runs in .* \(pid {os.getpid()}\)"),
    ):
        serve(scene.settings, stop=scene.stop, voice=scene.voice)


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'ops.servers.launch', '/bin/sleep', '300'],"
        " start_new_session=True, env=os.environ | {'STACK_PARENT_PID': str(os.getpid())})\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(300)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    until_s = time.monotonic() + 20
    while not processes.named(child, "sleep") and time.monotonic() < until_s:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    while processes.members(child) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert processes.members(child) == []


def test_only_a_vllm_is_ended_as_a_leftover(tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "300"], start_new_session=True)
    engine = subprocess.Popen(["bash", "-c", "exec -a VLLM::Worker sleep 300"], start_new_session=True)
    pid_file = server_process.group_file(address.folder_in(tmp_path), NAME)
    pid_file.parent.mkdir()
    try:
        assert end_leftovers(tmp_path) == []
        pid_file.write_text("no number")
        assert end_leftovers(tmp_path) == []
        pid_file.write_text(str(other.pid))
        assert end_leftovers(tmp_path) == []
        assert other.poll() is None
        until_s = time.monotonic() + 20
        while not processes.named(engine.pid, "vllm") and time.monotonic() < until_s:
            time.sleep(0.05)
        pid_file.write_text(str(engine.pid))
        assert end_leftovers(tmp_path) == [engine.pid]
        assert engine.wait(timeout=5) == -signal.SIGTERM
    finally:
        other.kill()
        other.wait()
        engine.kill()
        engine.wait()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "teacher.example"])
def test_an_open_door_without_a_key_is_refused(host: str) -> None:
    open_door = TeacherServer(host=host)
    with pytest.raises(ServerError, match="RELEVANCE_TEACHER__API_KEY"):
        refuse_open_door(Settings(teacher_server=open_door))
    refuse_open_door(Settings(teacher_server=open_door, teacher=Teacher(api_key=SecretStr("a key"))))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_no_key(host: str) -> None:
    refuse_open_door(Settings(teacher_server=TeacherServer(host=host)))
