"""The `trainer` part: follows `relevance.judgements`, trains and publishes students until it is stopped."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import torch

from ops import heartbeat
from ops.settings import Settings
from students.incremental.progress import Progress
from students.incremental.trainer import run_trainer

PART = "trainer"
BEAT_EVERY_S = 1.0
#: A step of an update that says nothing for so long hangs; then the beating ends too, and the supervisor sees it.
SILENT_AT_MOST_S = 600.0


def run(
    settings: Settings,
    bootstrap: str,
    *,
    stop: threading.Event,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Run until `stop` is set; `say` hears of every change of what the heartbeat tells. The topics must exist.

    Raises what `run_trainer` does.
    """
    if settings.trainer.threads:
        torch.set_num_threads(settings.trainer.threads)
    pulse = _Pulse(settings, say)
    thread = threading.Thread(target=pulse.beat_until_ended, daemon=True)
    thread.start()
    try:
        run_trainer(settings, bootstrap, stop=stop, on_progress=pulse.take)
    finally:
        pulse.end()
        thread.join(timeout=5)


class _Pulse:
    """Beats once a second, also while an export or a gate keeps the trainer's thread busy."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings, self._say = settings, say
        self._ended = threading.Event()
        self._state, self._detail = "starting", "reading the checkpoint"
        self._counters: dict[str, float] = {}
        self._heard_s = time.monotonic()

    def take(self, progress: Progress) -> None:
        """Note what the trainer tells; called in its thread."""
        if progress.detail != self._detail:
            self._say(progress.detail)
        self._state, self._detail, self._counters = "ready", progress.detail, progress.counters()
        self._heard_s = time.monotonic()

    def beat_until_ended(self) -> None:
        """Beat, unless nothing was heard for long."""
        while not self._ended.wait(BEAT_EVERY_S):
            if time.monotonic() - self._heard_s < SILENT_AT_MOST_S:
                self._beat()

    def end(self) -> None:
        """Beat a last time."""
        self._ended.set()
        self._state, self._detail = "stopping", ""
        self._beat()

    def _beat(self) -> None:
        heartbeat.beat(
            self._settings.run_dir,
            heartbeat.Heartbeat(
                part=PART,
                pid=os.getpid(),
                at_s=time.time(),
                state=self._state,
                detail=self._detail,
                counters=self._counters,
            ),
        )
