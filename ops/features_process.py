"""The `features` part: applies the feature store's definitions, then pushes from the topics until it is stopped."""

from __future__ import annotations

import os
import sqlite3
import threading
import time

from feature_store.online import corrupt
from feature_store.pusher import Progress, run_pusher
from feature_store.store import apply, online_path
from ops import heartbeat
from ops.settings import Settings

PART = "features"
BEAT_EVERY_S = 1.0


def run(settings: Settings, bootstrap: str, *, stop: threading.Event) -> None:
    """Run until `stop` is set. The topics must exist.

    Raises OnlineStoreCorruptError if the online store in sqlite is damaged, OSError if the folder can't be written,
    KafkaError if the broker refuses for good.
    """
    _beat(settings, "starting", "applying the definitions", {})
    try:
        apply(settings)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise corrupt(online_path(settings), error) from error
    next_beat_s = 0.0

    def progressed(progress: Progress) -> None:
        nonlocal next_beat_s
        if time.monotonic() >= next_beat_s:
            next_beat_s = time.monotonic() + BEAT_EVERY_S
            detail = progress.trouble or f"{progress.online_rows:,} rows online since start"
            _beat(settings, "ready", detail, progress.counters())

    try:
        run_pusher(settings, bootstrap, stop=stop, on_progress=progressed)
    finally:
        _beat(settings, "stopping", "", {})


def _beat(settings: Settings, state: str, detail: str, counters: dict[str, float]) -> None:
    heartbeat.beat(
        settings.run_dir,
        heartbeat.Heartbeat(
            part=PART, pid=os.getpid(), at_s=time.time(), state=state, detail=detail, counters=counters
        ),
    )
