"""A part's heartbeat from a thread: it goes on while the part loads models, and ends when the part hangs."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from ops import heartbeat

BEAT_EVERY_S = 1.0


class Pulse:
    """Beats while entered, as of what was told last; with nothing told for `silent_at_most_s` it stops to beat.

    Every `tell` counts as a sign of life, a beat does not: what hangs tells nothing any more.
    """

    def __init__(self, run_dir: Path, part: str, *, silent_at_most_s: float) -> None:
        self._run_dir, self._part = run_dir, part
        self._silent_at_most_s = silent_at_most_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_ended, name=f"pulse of {part}", daemon=True)
        self.tell("starting", "")

    def tell(self, state: str, detail: str, counters: Mapping[str, float] | None = None) -> None:
        """Note how the part is: `starting` or `ready`, a line for people, counters since the start."""
        self._told = (state, detail, dict(counters or {}))
        self._told_s = time.monotonic()

    def __enter__(self) -> Self:
        self._beat()
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._ended.set()
        self._thread.join()
        heartbeat.path_of(self._run_dir, self._part).unlink(missing_ok=True)

    def _beat_until_ended(self) -> None:
        while not self._ended.wait(BEAT_EVERY_S):
            if time.monotonic() - self._told_s < self._silent_at_most_s:
                self._beat()

    def _beat(self) -> None:
        state, detail, counters = self._told
        # A full disk, or a stack that clears the folder as it starts: the next beat is a second away.
        with contextlib.suppress(OSError):
            heartbeat.beat(
                self._run_dir,
                heartbeat.Heartbeat(self._part, os.getpid(), time.time(), state, detail, counters),
            )
