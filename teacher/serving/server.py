"""vLLM kept running: prepared, started, probed, restarted when it dies or hangs, and ended without leftovers.

Everything of it lies in `teacher/` of the run directory: lock, log and address. The address is there only while
the server is ready.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ops.pulse import Pulse
from ops.servers.keeping import ServerError, is_loopback, keep_running, only_one, wait_until_it_answers
from ops.servers.server_process import STOPS_WITHIN_S, ServerProcess
from ops.servers.steps import ROOT
from ops.servers.voice import Voice
from ops.settings import Settings, Teacher
from ops.stack import logs
from ops.stack.addresses import reachable
from ops.stack.ports import free_port
from teacher.client import TeacherClient
from teacher.judging import answer_tokens
from teacher.policy import configured
from teacher.probe import ProbeReport, probe
from teacher.prompt import Mode
from teacher.serving import address
from teacher.serving.command import server_command, server_environment
from teacher.serving.environment import ensure_environment, made_environment
from teacher.serving.leftovers import NAME, end_leftovers
from teacher.serving.weights import made_model, model_to_serve

PART = "teacher-server"
POLL_S = 0.5
HEALTH_EVERY_S = 5.0
HEALTH_TIMEOUT_S = 10.0
#: Without a sign of health for so long it hangs.
HANGS_AFTER_S = 60.0
#: A probe on a busy machine takes its time; one that takes longer hangs.
SILENT_AT_MOST_S = 600.0


def serve(
    settings: Settings,
    *,
    stop: threading.Event,
    voice: Voice,
    make: bool = True,
    stops_within_s: float = STOPS_WITHIN_S,
) -> None:
    """Serve until `stop` is set. Call it from the main thread: the server ends with the thread that started it.

    Missing environment and weights are made, unless `make` is false. vLLM has `stops_within_s` to end by itself.
    Raises ServerError, PreparationError, StoppedError if stopped before it was ready.
    """
    refuse_open_door(settings)
    folder = address.folder_in(settings.run_dir)
    server = settings.teacher_server
    with (
        only_one(folder, "teacher server"),
        Pulse(settings.run_dir, PART, silent_at_most_s=SILENT_AT_MOST_S) as pulse,
    ):
        end_leftovers(settings.run_dir)
        python, model = prepare(settings, stop=stop, say=voice.say) if make else prepared(settings)
        port = free_port(server.port, server.host)
        run = _Run(settings, folder=folder, python=python, model=model, port=port)
        keep_running(
            run.process,
            name="vLLM",
            start=partial(_start, run, settings, stop=stop, voice=voice, pulse=pulse),
            offer=lambda pid: address.write(settings.run_dir, address.TeacherAddress(run.url, pid)),
            watch=partial(_watch, run, stop=stop, pulse=pulse),
            withdraw=partial(address.remove, settings.run_dir),
            stop=stop,
            voice=voice,
            stops_within_s=stops_within_s,
        )


def prepare(settings: Settings, *, stop: threading.Event, say: Callable[[str], None]) -> tuple[Path, str]:
    """Make what is missing of environment and weights; return the interpreter and the model's folder or name.

    Raises PreparationError, StoppedError.
    """
    server = settings.teacher_server
    python = ensure_environment(server, say=say, stop=stop)
    return python, model_to_serve(server, python, say=say, stop=stop)


def prepared(settings: Settings) -> tuple[Path, str]:
    """Return what `prepare` returns, making nothing. Raises PreparationError if something is missing."""
    python = made_environment(settings.teacher_server)
    return python, made_model(settings.teacher_server, python)


def refuse_open_door(settings: Settings) -> None:
    """Raise ServerError if others could use the server without a key."""
    host = settings.teacher_server.host
    if not is_loopback(host) and not settings.teacher.api_key.get_secret_value():
        raise ServerError(
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


class _Run:
    """The vLLM of one run directory, and where it listens."""

    def __init__(self, settings: Settings, *, folder: Path, python: Path, model: str, port: int) -> None:
        self.url = f"http://{reachable(settings.teacher_server.host)}:{port}/v1"
        self.process = ServerProcess(
            server_command(settings, python=python, model=model, port=port),
            name=NAME,
            folder=folder,
            environment=server_environment(settings, python=python, model=model, inherited=os.environ),
            working_directory=ROOT,
        )


def _start(run: _Run, settings: Settings, *, stop: threading.Event, voice: Voice, pulse: Pulse) -> int:
    def waiting(line: str) -> None:
        voice.waiting(line)
        pulse.tell("starting", line)

    began_s = time.monotonic()
    pid = run.process.start()
    log = run.process.log
    voice.say(f"vLLM is starting (half a minute, the first time some two minutes); log: {log}")
    healthy_s = wait_until_it_answers(
        run.process,
        lambda: healthy(run.url, timeout_s=1),
        name="vLLM",
        within_s=settings.teacher_server.start_within_s,
        setting="teacher_server.start_within_s",
        every_s=POLL_S,
        stop=stop,
        waiting=lambda passed_s: waiting(
            f"vLLM is starting  {passed_s:.0f} s  {''.join(logs.tail(log, 1))[:80]}"
        ),
    )
    waiting("probing the teacher")
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


def _watch(run: _Run, pid: int, restarts: int, *, stop: threading.Event, pulse: Pulse) -> str:
    """Return what is wrong as soon as something is; empty when asked to stop."""
    seen_s = looked_s = time.monotonic()
    while not stop.wait(POLL_S):
        if (status := run.process.status()) is not None:
            return f"ended with status {status}"
        now_s = time.monotonic()
        pulse.tell("ready", run.url, {"restarts": float(restarts)})
        if now_s - looked_s < HEALTH_EVERY_S:
            continue
        if healthy(run.url, timeout_s=HEALTH_TIMEOUT_S):
            seen_s = now_s
        elif now_s - seen_s > HANGS_AFTER_S:
            return f"has given no sign of health for {now_s - seen_s:.0f} s"
        looked_s = time.monotonic()
    return ""
