"""The `sampler` part: sends pairs to the teacher until it is stopped."""

from __future__ import annotations

import os
import threading
import time

from ops import heartbeat
from ops.settings import Settings
from streams.sampling_worker import Progress, run_sampler

PART = "sampler"
BEAT_EVERY_S = 1.0


def run(settings: Settings, bootstrap: str, *, stop: threading.Event) -> None:
    """Run until `stop` is set. The topics must exist. Raises KafkaError if the broker refuses for good, OSError if
    the sampler's memory can't be used."""
    _beat(settings, "starting", "opening its memory", {})
    next_beat_s = 0.0

    def progressed(progress: Progress) -> None:
        nonlocal next_beat_s
        if time.monotonic() >= next_beat_s:
            next_beat_s = time.monotonic() + BEAT_EVERY_S
            _beat(settings, "ready", detail(progress), progress.counters())

    try:
        run_sampler(settings, bootstrap, stop=stop, on_progress=progressed)
    finally:
        _beat(settings, "stopping", "", {})


def detail(progress: Progress) -> str:
    """Return one line for people."""
    if progress.trouble:
        return progress.trouble
    waits = f"; waits for {progress.waits_for}" if progress.waits_for else ""
    return f"{progress.sent:,} pairs sent since start, {progress.candidates:,} candidates{waits}"


def _beat(settings: Settings, state: str, said: str, counters: dict[str, float]) -> None:
    heartbeat.beat(
        settings.run_dir,
        heartbeat.Heartbeat(
            part=PART, pid=os.getpid(), at_s=time.time(), state=state, detail=said, counters=counters
        ),
    )
