"""vLLM kept running: prepared, started, probed, restarted when it dies or hangs, and ended without leftovers.

Everything of it lies in `teacher/` of the run directory: lock, log and address. The address is there only while
the server is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ops.files import write_atomically
from ops.settings import Settings, Teacher
from ops.stack import logs, run_lock
from ops.stack.lifeline import PARENT_VARIABLE
from ops.stack.ports import free_port
from teacher.client import TeacherClient
from teacher.judging import answer_tokens
from teacher.policy import configured
from teacher.probe import ProbeReport, probe
from teacher.prompt import Mode
from teacher.serving import address, processes
from teacher.serving.command import server_command, server_environment
from teacher.serving.environment import ensure_environment
from teacher.serving.steps import ROOT, StoppedError
from teacher.serving.weights import DEFAULT_ADAPTER, model_to_serve

LOG_NAME = "vllm"
GROUP_NAME = "vllm.pid"
POLL_S = 0.5
HEALTH_EVERY_S = 5.0
HEALTH_TIMEOUT_S = 10.0
#: Without a sign of health for so long it hangs.
HANGS_AFTER_S = 60.0
STOPS_WITHIN_S = 8.0
#: So many starts in a row that do not get healthy will not get better.
STARTS_TO_GIVE_UP = 3
TAIL_LINES = 15


class TeacherServerError(RuntimeError):
    """The server cannot be started. The message holds the reason, the end of its log, and what to do."""


@dataclass(frozen=True, slots=True)
class Voice:
    """Where progress goes: `say` takes a finished line, `waiting` one that the next replaces."""

    say: Callable[[str], None]
    waiting: Callable[[str], None]


def serve(
    settings: Settings, *, stop: threading.Event, voice: Voice, adapter: Path | None = DEFAULT_ADAPTER
) -> None:
    """Serve until `stop` is set. Call it from the main thread: the server ends with the thread that started it.

    Makes environment and weights if they are missing. `adapter` is merged into the small model; None serves it as
    it comes. Raises TeacherServerError, PreparationError, StoppedError if stopped before it was ready.
    """
    refuse_open_door(settings)
    folder = address.folder_in(settings.run_dir)
    server = settings.teacher_server
    with _only_one(folder):
        address.remove(settings.run_dir)
        end_leftovers(folder)
        python, model = prepare(settings, stop=stop, say=voice.say, adapter=adapter)
        port = free_port(server.port, server.host)
        run = _Run(settings, folder=folder, python=python, model=model, port=port)
        try:
            _keep_running(run, settings, stop=stop, voice=voice)
        finally:
            address.remove(settings.run_dir)
            run.end()


def prepare(
    settings: Settings,
    *,
    stop: threading.Event,
    say: Callable[[str], None],
    adapter: Path | None = DEFAULT_ADAPTER,
) -> tuple[Path, str]:
    """Make what is missing of environment and weights; return the interpreter and the model's folder or name.

    Raises PreparationError, StoppedError.
    """
    server = settings.teacher_server
    python = ensure_environment(server, say=say, stop=stop)
    return python, model_to_serve(server, python, adapter=adapter, say=say, stop=stop)


def refuse_open_door(settings: Settings) -> None:
    """Raise TeacherServerError if others could use the server without a key."""
    host = settings.teacher_server.host
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback and not settings.teacher.api_key.get_secret_value():
        raise TeacherServerError(
            f"teacher_server.host is {host}, so the whole network could use the teacher: set a key with"
            " RELEVANCE_TEACHER__API_KEY, or host 127.0.0.1"
        )


def healthy(url: str, *, timeout_s: float) -> bool:
    """Tell whether a server answers /health at the base URL `url` with 200."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url.removesuffix("/v1") + "/health", timeout=timeout_s) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    try:
        lock = run_lock.RunLock(folder)
        lock.__enter__()
    except run_lock.AlreadyRunningError:
        raise TeacherServerError(
            f"a teacher server already runs in {folder} (pid {run_lock.holder(folder)}): stop it with Ctrl-C there,"
            " or give this one another --run-dir"
        ) from None
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def end_leftovers(folder: Path) -> None:
    """End the vLLM of an earlier server of this folder, if it has outlived everything that watched it."""
    try:
        group = int((folder / GROUP_NAME).read_text())
    except (FileNotFoundError, ValueError):
        return
    # The number may meanwhile be another program's.
    if processes.named(group, "vllm"):
        processes.end_group(group, within_s=STOPS_WITHIN_S)


class _Run:
    """The vLLM of one run directory, in a process group of its own."""

    def __init__(self, settings: Settings, *, folder: Path, python: Path, model: str, port: int) -> None:
        host = settings.teacher_server.host
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        self.url = f"http://{f'[{reachable}]' if ':' in reachable else reachable}:{port}/v1"
        self.log = logs.path_of(folder, LOG_NAME)
        self._group_file = folder / GROUP_NAME
        self._command = server_command(settings, python=python, model=model, port=port)
        self._environment = server_environment(settings, python=python, model=model, inherited=os.environ)
        self._environment |= {PARENT_VARIABLE: str(os.getpid())}
        self._process: subprocess.Popen[bytes] | None = None
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")

    def start(self) -> int:
        """Start it and return its pid."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "teacher.serving.launch", *self._command],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        write_atomically(self._group_file, str(self._process.pid).encode())
        return self._process.pid

    def status(self) -> int | None:
        """Return its exit status, or None while it runs."""
        return self._process.poll() if self._process else 0

    def end(self) -> None:
        """End it and whatever it has started."""
        if self._process is None:
            return
        # It ends its engine by itself if only the server is told.
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=STOPS_WITHIN_S)
        processes.end_group(self._process.pid, within_s=0)
        self._process.wait()
        self._process = None
        self._group_file.unlink()


def _keep_running(run: _Run, settings: Settings, *, stop: threading.Event, voice: Voice) -> None:
    failed, was_ready = 0, False
    while not stop.is_set():
        try:
            pid = _start(run, settings, stop=stop, voice=voice)
        except TeacherServerError as error:
            run.end()
            failed += 1
            if not was_ready or failed == STARTS_TO_GIVE_UP:
                raise
            voice.say(f"start {failed} of {STARTS_TO_GIVE_UP} failed: {str(error).splitlines()[0]}")
            continue
        failed, was_ready = 0, True
        address.write(settings.run_dir, address.TeacherAddress(run.url, pid))
        reason = _watch(run, stop)
        if reason:
            address.remove(settings.run_dir)
            voice.say(f"vLLM {reason}; it is started again, its log is {run.log}")
            run.end()


def _start(run: _Run, settings: Settings, *, stop: threading.Event, voice: Voice) -> int:
    began_s = time.monotonic()
    within_s = settings.teacher_server.start_within_s
    pid = run.start()
    voice.say(f"vLLM is starting (half a minute, the first time some two minutes); log: {run.log}")
    while not healthy(run.url, timeout_s=1):
        passed_s = time.monotonic() - began_s
        if (status := run.status()) is not None:
            raise _failure(run, f"vLLM ended with status {status} after {passed_s:.0f} s")
        if passed_s > within_s:
            raise _failure(run, f"vLLM was not healthy within {within_s:g} s (teacher_server.start_within_s)")
        voice.waiting(f"vLLM is starting  {passed_s:.0f} s  {''.join(logs.tail(run.log, 1))[:80]}")
        if stop.wait(POLL_S):
            raise StoppedError("stopped while vLLM was starting")
    healthy_s = time.monotonic() - began_s
    voice.waiting("probing the teacher")
    report = asyncio.run(_probe(run.url, settings.teacher))
    for note in report.notes:
        voice.say(f"note: {note}")
    voice.say(
        f"ready  vLLM {healthy_s:.1f} s, probe {time.monotonic() - began_s - healthy_s:.1f} s"
        f"  {report.teacher_id} at {run.url}"
    )
    return pid


async def _probe(url: str, teacher: Teacher) -> ProbeReport:
    mode = Mode(teacher.mode)
    client = TeacherClient(
        [url],
        model=teacher.model,
        api_key=teacher.api_key.get_secret_value(),
        timeout_s=teacher.timeout_s,
        retries=teacher.retries,
    )
    async with client:
        policy, max_tokens = configured(teacher), answer_tokens(mode, teacher.max_tokens)
        return await probe(client, policy=policy, mode=mode, max_tokens=max_tokens)


def _watch(run: _Run, stop: threading.Event) -> str:
    """Return what is wrong as soon as something is; empty when asked to stop."""
    seen_s = looked_s = time.monotonic()
    while not stop.wait(POLL_S):
        if (status := run.status()) is not None:
            return f"ended with status {status}"
        now_s = time.monotonic()
        if now_s - looked_s < HEALTH_EVERY_S:
            continue
        if healthy(run.url, timeout_s=HEALTH_TIMEOUT_S):
            seen_s = now_s
        elif now_s - seen_s > HANGS_AFTER_S:
            return f"has given no sign of health for {now_s - seen_s:.0f} s"
        looked_s = time.monotonic()
    return ""


def _failure(run: _Run, what: str) -> TeacherServerError:
    quoted = "\n".join(f"  {line}" for line in logs.tail(run.log, TAIL_LINES))
    return TeacherServerError(f"{what}; the end of {run.log}:\n{quoted}")
