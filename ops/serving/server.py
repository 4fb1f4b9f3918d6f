"""tritonserver kept running: prepared, started, its models loaded, watched, restarted, and ended without leftovers.

Everything of it lies in `triton/` of the run directory: lock, log, address, backends. The address is there only while
the server is ready. It beats as a part of the stack does.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ops import heartbeat
from ops.files import write_atomically
from ops.serving import address, stubs
from ops.serving.command import (
    Installation,
    installation_of,
    server_command,
    server_environment,
    write_backends,
)
from ops.serving.connection import Control, TritonError
from ops.serving.environment import ensure_environment
from ops.serving.watchdog import LOOK_EVERY_S, Watchdog
from ops.settings import Settings
from ops.stack import logs, run_lock
from ops.stack.lifeline import PARENT_VARIABLE
from ops.stack.ports import free_port
from students.publishing.ledger import LedgerError
from students.publishing.publisher import Publisher
from students.publishing.repository import Repository, root_of
from teacher.serving import processes
from teacher.serving.server import Voice
from teacher.serving.steps import StoppedError

PART = "triton"
LOG_NAME = "tritonserver"
GROUP_NAME = "tritonserver.pid"
POLL_S = 0.1
BEAT_EVERY_S = 1.0
RETIRE_EVERY_S = 30.0
STOPS_WITHIN_S = 8.0
#: So many starts in a row that do not get ready will not get better.
STARTS_TO_GIVE_UP = 3
TAIL_LINES = 15


class ServingError(RuntimeError):
    """The server cannot be started. The message holds the reason, the end of its log, and what to do."""


def serve(settings: Settings, *, stop: threading.Event, voice: Voice) -> None:
    """Serve until `stop` is set. Call it from the main thread: the server ends with the thread that started it.

    Makes the environment if it is missing. Raises ServingError, PreparationError, StoppedError if stopped before it
    was ready.
    """
    refuse_open_door(settings)
    folder = address.folder_in(settings.run_dir)
    prefix = stubs.region_prefix(settings.run_dir)
    with _only_one(folder):
        address.remove(settings.run_dir)
        end_leftovers(folder, prefix)
        python = ensure_environment(settings.triton_server, say=voice.say, stop=stop)
        run = _Run(settings, installation_of(python), folder=folder, prefix=prefix)
        try:
            _keep_running(run, settings, stop=stop, voice=voice)
        finally:
            address.remove(settings.run_dir)
            run.end()
            heartbeat.path_of(settings.run_dir, PART).unlink(missing_ok=True)


def refuse_open_door(settings: Settings) -> None:
    """Raise ServingError if others could use the server without a token, or read the token on its way."""
    server = settings.triton_server
    try:
        loopback = ipaddress.ip_address(server.host).is_loopback
    except ValueError:
        loopback = server.host == "localhost"
    if loopback:
        return
    missing = []
    if not settings.scoring.token.get_secret_value() and server.client_ca_file is None:
        missing.append(
            "a token (RELEVANCE_SCORING__TOKEN) or client certificates (triton_server.client_ca_file)"
        )
    if server.certificate is None:
        missing.append("TLS (triton_server.certificate and key)")
    if missing:
        raise ServingError(
            f"triton_server.host is {server.host}, so the whole network could load models:"
            f" set {' and '.join(missing)}, or host 127.0.0.1"
        )


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    try:
        lock = run_lock.RunLock(folder)
        lock.__enter__()
    except run_lock.AlreadyRunningError:
        raise ServingError(
            f"a Triton already runs in {folder} (pid {run_lock.holder(folder)}): stop it with Ctrl-C there,"
            " or give this one another --run-dir"
        ) from None
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def end_leftovers(folder: Path, prefix: str) -> None:
    """End the server that an earlier run of this folder has left, and remove its shared memory."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        group = int((folder / GROUP_NAME).read_text())
        # The number may meanwhile be another program's.
        if processes.named(group, "triton"):
            processes.end_group(group, within_s=STOPS_WITHIN_S)
    stubs.remove_regions(prefix)


class _Run:
    """The tritonserver of one run directory, in a process group of its own."""

    def __init__(self, settings: Settings, installed: Installation, *, folder: Path, prefix: str) -> None:
        server = settings.triton_server
        port = free_port(server.port, server.host)
        metrics_port = free_port(server.metrics_port, taken=frozenset({port}))
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)
        self.grpc = f"{f'[{host}]' if ':' in host else host}:{port}"
        self.metrics = f"http://127.0.0.1:{metrics_port}/metrics"
        self.log = logs.path_of(folder, LOG_NAME)
        self._group_file = folder / GROUP_NAME
        self._prefix = prefix
        write_backends(installed, folder / "backends")
        self._command = server_command(
            settings,
            installed,
            models=Repository(root_of(settings)).models,
            backends=folder / "backends",
            shared_memory=prefix,
            ports=(port, metrics_port),
        )
        self._environment = server_environment(installed, inherited=os.environ)
        self._environment |= {PARENT_VARIABLE: str(os.getpid())}
        self._process: subprocess.Popen[bytes] | None = None
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")

    def start(self) -> int:
        """Start it and return its pid."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "teacher.serving.launch", *self._command],
                # Its Python models look for modules here first: in the project they would find its present ones.
                cwd=self._group_file.parent,
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
        """End it and its stubs, and remove what they leave."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=STOPS_WITHIN_S)
        processes.end_group(self._process.pid, within_s=0)
        self._process.wait()
        self._process = None
        stubs.remove_regions(self._prefix)
        self._group_file.unlink(missing_ok=True)


def _keep_running(run: _Run, settings: Settings, *, stop: threading.Event, voice: Voice) -> None:
    failed, was_ready, restarts = 0, False, 0
    while not stop.is_set():
        try:
            pid = _start(run, settings, stop=stop, voice=voice)
        except ServingError as error:
            run.end()
            failed += 1
            if not was_ready or failed == STARTS_TO_GIVE_UP:
                raise
            voice.say(f"start {failed} of {STARTS_TO_GIVE_UP} failed: {str(error).splitlines()[0]}")
            continue
        failed, was_ready = 0, True
        address.write(settings.run_dir, address.TritonAddress(run.grpc, run.metrics, pid))
        reason = _watch(run, settings, pid, restarts=restarts, stop=stop, voice=voice)
        if reason:
            restarts += 1
            address.remove(settings.run_dir)
            voice.say(f"tritonserver {reason}; it is started again, its log is {run.log}")
            run.end()


def _start(run: _Run, settings: Settings, *, stop: threading.Event, voice: Voice) -> int:
    began_s = time.monotonic()
    within_s = settings.triton_server.start_within_s
    pid = run.start()
    _beat(settings, "starting", "waiting for an answer on its gRPC port", {})
    with contextlib.closing(Control(settings, at=run.grpc)) as control:
        while not control.live(timeout_s=1):
            passed_s = time.monotonic() - began_s
            if (status := run.status()) is not None:
                raise _failure(run, f"tritonserver ended with status {status} after {passed_s:.0f} s")
            if passed_s > within_s:
                raise _failure(
                    run, f"tritonserver did not answer within {within_s:g} s (triton_server.start_within_s)"
                )
            voice.waiting(f"tritonserver is starting  {passed_s:.0f} s")
            if stop.wait(POLL_S):
                raise StoppedError("stopped while tritonserver was starting")
        live_s = time.monotonic() - began_s
        served = Repository(root_of(settings)).served()
        for model in served:
            if stop.is_set():
                raise StoppedError("stopped while models were loading")
            voice.waiting(f"loading {model}")
            _beat(settings, "starting", f"loading {model}", {})
            try:
                control.load(model)
            except TritonError as error:
                # The others serve; publishing anew mends this one.
                voice.say(f"note: {error}")
    versions = sorted({each for numbers in served.values() for each in numbers})
    voice.say(
        f"ready  tritonserver {live_s:.1f} s, models {time.monotonic() - began_s - live_s:.1f} s"
        f"  gRPC {run.grpc}  versions {', '.join(map(str, versions)) or 'none yet'}"
    )
    return pid


def _watch(
    run: _Run, settings: Settings, pid: int, *, restarts: int, stop: threading.Event, voice: Voice
) -> str:
    """Return what is wrong as soon as something is that only a restart mends; empty when asked to stop."""
    beat_at_s = retire_at_s = 0.0
    repository = Repository(root_of(settings))
    with contextlib.closing(Control(settings, at=run.grpc)) as control:
        watchdog = Watchdog(
            control,
            repository,
            server_pid=pid,
            probe_every_s=settings.triton_server.probe_every_s,
            say=voice.say,
        )
        publisher = Publisher(settings, control)
        while not stop.wait(LOOK_EVERY_S):
            if (status := run.status()) is not None:
                return f"ended with status {status}"
            now_s = time.monotonic()
            watchdog.look(now_s)
            if now_s >= beat_at_s:
                beat_at_s = now_s + BEAT_EVERY_S
                served = repository.served()
                counters = {name: float(value) for name, value in watchdog.counters.items()}
                counters |= {"restarts": float(restarts), "models": float(len(served))}
                _beat(
                    settings,
                    "ready",
                    f"{len(served)} models, {sum(map(len, served.values()))} versions",
                    counters,
                )
            if now_s >= retire_at_s:
                retire_at_s = now_s + RETIRE_EVERY_S
                try:
                    # A publish under way is no reason to stop watching.
                    retired = publisher.retire_due(wait=False)
                except BlockingIOError:
                    continue
                except (TritonError, LedgerError) as error:
                    voice.say(f"nothing can be retired: {error}")
                    continue
                for step in retired:
                    voice.say(f"retired {step.kind} {step.version}: {step.decision}")
    return ""


def _beat(settings: Settings, state: str, detail: str, counters: dict[str, float]) -> None:
    beat = heartbeat.Heartbeat(
        part=PART, pid=os.getpid(), at_s=time.time(), state=state, detail=detail, counters=counters
    )
    heartbeat.beat(settings.run_dir, beat)


def _failure(run: _Run, what: str) -> ServingError:
    quoted = "\n".join(f"  {line}" for line in logs.tail(run.log, TAIL_LINES))
    return ServingError(f"{what}; the end of {run.log}:\n{quoted}")
