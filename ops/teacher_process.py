"""The `teacher-worker-N` part: has pairs judged until it is stopped."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from ops import heartbeat
from ops.settings import Settings
from teacher.progress import Progress
from teacher.worker import run_worker

BEAT_EVERY_S = 1.0


def run(
    settings: Settings,
    bootstrap: str,
    *,
    number: int,
    stop: threading.Event,
    also: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Run worker `number` (from 1) until `stop` is set; `also` is told the progress once a second.

    The topics must exist. A teacher that is away is waited for. Raises KafkaError if the broker refuses for good.
    """
    part = f"teacher-worker-{number}"
    _beat(settings, part, "starting", "connecting", {})
    next_beat_s = 0.0

    def progressed(progress: Progress) -> None:
        nonlocal next_beat_s
        if time.monotonic() >= next_beat_s:
            next_beat_s = time.monotonic() + BEAT_EVERY_S
            _beat(settings, part, "ready", detail(progress), progress.counters())
            also(progress)

    try:
        run_worker(settings, bootstrap, number=number, stop=stop, on_progress=progressed)
    finally:
        _beat(settings, part, "stopping", "", {})


def detail(progress: Progress) -> str:
    """Return one line for people."""
    if progress.trouble:
        return progress.trouble
    if progress.waits_for:
        return f"waits for the teacher: {progress.waits_for}"
    behind = "" if progress.lag is None else f", {progress.lag:,} pairs behind"
    return f"{progress.published:,} judgements since start, {progress.judged_per_s():.1f}/s{behind}"


def _beat(settings: Settings, part: str, state: str, said: str, counters: dict[str, float]) -> None:
    heartbeat.beat(
        settings.run_dir,
        heartbeat.Heartbeat(
            part=part, pid=os.getpid(), at_s=time.time(), state=state, detail=said, counters=counters
        ),
    )
