"""tritonserver kept running: prepared, started, its models loaded, watched, restarted, and ended without leftovers.

Everything of it lies in `triton/` of the run directory: lock, log, address, backends. The address is there only while
the server is ready. It beats as a part of the stack does.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from functools import partial
from pathlib import Path

from ops.pulse import Pulse
from ops.servers.keeping import ServerError, is_loopback, keep_running, only_one, wait_until_it_answers
from ops.servers.server_process import STOPS_WITHIN_S, ServerProcess
from ops.servers.steps import StoppedError
from ops.servers.voice import Voice
from ops.serving import address, stubs
from ops.serving.announcing import Announcer
from ops.serving.command import (
    Installation,
    installation_of,
    server_command,
    server_environment,
    write_backends,
)
from ops.serving.connection import Control, TritonError
from ops.serving.environment import ensure_environment, made_environment
from ops.serving.leftovers import NAME, end_leftovers
from ops.serving.watchdog import LOOK_EVERY_S, Watchdog
from ops.settings import Settings
from ops.stack.addresses import reachable
from ops.stack.ports import free_port
from students.publishing.ledger import LedgerError
from students.publishing.publisher import Publisher
from students.publishing.repository import Repository, root_of

PART = "triton"
POLL_S = 0.1
#: All questions of a look at the models, in the worst of cases.
PROBES_WITHIN_S = 120.0
RETIRE_EVERY_S = 30.0


def serve(
    settings: Settings,
    *,
    stop: threading.Event,
    voice: Voice,
    make: bool = True,
    stops_within_s: float = STOPS_WITHIN_S,
) -> None:
    """Serve until `stop` is set. Call it from the main thread: the server ends with the thread that started it.

    A missing environment is made, unless `make` is false. The server has `stops_within_s` to end by itself.
    Raises ServerError, PreparationError, StoppedError if stopped before it was ready.
    """
    refuse_open_door(settings)
    folder = address.folder_in(settings.run_dir)
    prefix = stubs.region_prefix(settings.run_dir)
    silent_s = settings.serving.load_within_s + PROBES_WITHIN_S
    with only_one(folder, "Triton"), Pulse(settings.run_dir, PART, silent_at_most_s=silent_s) as pulse:
        end_leftovers(settings.run_dir)
        server = settings.triton_server
        python = ensure_environment(server, say=voice.say, stop=stop) if make else made_environment(server)
        run = _Run(settings, installation_of(python), folder=folder, prefix=prefix)
        keep_running(
            run.process,
            name=NAME,
            start=partial(_start, run, settings, stop=stop, voice=voice, pulse=pulse),
            offer=lambda pid: address.write(
                settings.run_dir, address.TritonAddress(run.grpc, run.metrics, pid)
            ),
            watch=partial(_watch, run, settings, stop=stop, voice=voice, pulse=pulse),
            withdraw=partial(address.remove, settings.run_dir),
            stop=stop,
            voice=voice,
            stops_within_s=stops_within_s,
        )


def refuse_open_door(settings: Settings) -> None:
    """Raise ServerError if others could use the server without a token, or read the token on its way."""
    server = settings.triton_server
    if is_loopback(server.host):
        return
    missing = []
    if not settings.scoring.token.get_secret_value() and server.client_ca_file is None:
        missing.append(
            "a token (RELEVANCE_SCORING__TOKEN) or client certificates (triton_server.client_ca_file)"
        )
    if server.certificate is None:
        missing.append("TLS (triton_server.certificate and key)")
    if missing:
        raise ServerError(
            f"triton_server.host is {server.host}, so the whole network could load models:"
            f" set {' and '.join(missing)}, or host 127.0.0.1"
        )


class _Run:
    """The tritonserver of one run directory, and where it listens."""

    def __init__(self, settings: Settings, installed: Installation, *, folder: Path, prefix: str) -> None:
        server = settings.triton_server
        port = free_port(server.port, server.host)
        metrics_port = free_port(server.metrics_port, taken=frozenset({port}))
        self.grpc = f"{reachable(server.host)}:{port}"
        self.metrics = f"http://127.0.0.1:{metrics_port}/metrics"
        write_backends(installed, folder / "backends")
        self.process = ServerProcess(
            server_command(
                settings,
                installed,
                models=Repository(root_of(settings)).models,
                backends=folder / "backends",
                shared_memory=prefix,
                ports=(port, metrics_port),
            ),
            name=NAME,
            folder=folder,
            environment=server_environment(installed, inherited=os.environ),
            # Its Python models look for modules here first: in the project they would find its present ones.
            working_directory=folder,
            clean=partial(stubs.remove_regions, prefix),
        )


def _start(run: _Run, settings: Settings, *, stop: threading.Event, voice: Voice, pulse: Pulse) -> int:
    def waiting(line: str) -> None:
        voice.waiting(line)
        pulse.tell("starting", line)

    began_s = time.monotonic()
    pid = run.process.start()
    with contextlib.closing(Control(settings, at=run.grpc)) as control:
        live_s = wait_until_it_answers(
            run.process,
            lambda: control.live(timeout_s=1),
            name=NAME,
            within_s=settings.triton_server.start_within_s,
            setting="triton_server.start_within_s",
            every_s=POLL_S,
            stop=stop,
            waiting=lambda passed_s: waiting(f"{NAME} is starting  {passed_s:.0f} s"),
        )
        served = Repository(root_of(settings)).served()
        for model in served:
            if stop.is_set():
                raise StoppedError("stopped while models were loading")
            waiting(f"loading {model}")
            try:
                control.load(model)
            except TritonError as error:
                # The others serve; publishing anew mends this one.
                voice.say(f"note: {error}")
    versions = sorted({each for numbers in served.values() for each in numbers})
    voice.say(
        f"ready  {NAME} {live_s:.1f} s, models {time.monotonic() - began_s - live_s:.1f} s"
        f"  gRPC {run.grpc}  versions {', '.join(map(str, versions)) or 'none yet'}"
    )
    return pid


def _watch(
    run: _Run,
    settings: Settings,
    pid: int,
    restarts: int,
    *,
    stop: threading.Event,
    voice: Voice,
    pulse: Pulse,
) -> str:
    """Return what is wrong as soon as something is that only a restart mends; empty when asked to stop."""
    retire_at_s = 0.0
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
        announcer = Announcer(settings, publisher.ledger, say=voice.say)
        while not stop.wait(LOOK_EVERY_S):
            if (status := run.process.status()) is not None:
                return f"ended with status {status}"
            now_s = time.monotonic()
            watchdog.look(now_s)
            served = repository.served()
            counters = {name: float(value) for name, value in watchdog.counters.items()}
            counters |= {"restarts": float(restarts), "models": float(len(served))}
            versions = sum(map(len, served.values()))
            pulse.tell("ready", f"{run.grpc}, {versions} versions of models", counters)
            if now_s >= retire_at_s:
                retire_at_s = now_s + RETIRE_EVERY_S
                _retire(publisher, announcer, voice)
    return ""


def _retire(publisher: Publisher, announcer: Announcer, voice: Voice) -> None:
    try:
        # A publish under way is no reason to stop watching.
        with contextlib.suppress(BlockingIOError):
            for step in publisher.retire_due(wait=False):
                voice.say(f"retired {step.kind} {step.version}: {step.decision}")
    except TritonError as error:
        voice.say(f"nothing can be retired: {error}")
    except LedgerError as error:
        voice.say(f"nothing can be retired or announced: {error}")
        return
    announcer.look()
