"""The `loop` part: promotes what passed the gate to the treatment arm, and takes off what does harm.

A part of its own: it needs Triton and the page and neither needs it, so it may be away or start anew at any time
without a query noticing. It remembers nothing; the repository's steps say what has been done.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from clickhouse_connect.driver.exceptions import ClickHouseError
from kafka.errors import KafkaError

from ops import heartbeat
from ops.cli.context import CommandError
from ops.clickhouse.client import ClickHouseUnavailableError
from ops.clickhouse.publishing import BrokerSilentError
from ops.endpoints import NotRunningError
from ops.loop.promoter import Promoter
from ops.loop.verdicts import guardrails_since
from ops.serving.connection import TritonError
from ops.settings import Settings
from students.publishing.publisher import PublishError

PART = "loop"
BEAT_EVERY_S = 1.0
#: A step that loads models on a busy machine takes its time; one that takes longer hangs.
SILENT_AT_MOST_S = 300.0
#: Another process is away, or refuses: asked again at the next look.
AWAY = (
    BrokerSilentError,
    ClickHouseError,
    ClickHouseUnavailableError,
    CommandError,
    KafkaError,
    NotRunningError,
    PublishError,
    TritonError,
)

logger = logging.getLogger(__name__)


def run(settings: Settings, bootstrap: str, *, stop: threading.Event) -> None:
    """Run until `stop` is set. Raises VersionError for a first version that is none, LedgerError.

    `bootstrap` is where steps are announced.
    """
    settings = settings.model_copy(update={"kafka": bootstrap})
    pulse = _Pulse(settings.run_dir)
    beating = threading.Thread(target=pulse.beat_until_ended, daemon=True)
    beating.start()
    promoter = Promoter(settings, partial(guardrails_since, settings))
    try:
        keep(settings, promoter, stop=stop, tell=pulse.take)
    finally:
        pulse.end()
        beating.join(timeout=5)


def keep(
    settings: Settings, promoter: Promoter, *, stop: threading.Event, tell: Callable[[str, str], None]
) -> None:
    """Look every `loop.check_every_s` until `stop` is set; `tell` hears a state and a line for people each time."""
    served = False
    guard_at_s = 0.0
    trouble = ""
    while not stop.is_set():
        try:
            if not served:
                promoter.first(first_versions(settings))
                served = True
            if time.monotonic() >= guard_at_s:
                guard_at_s = time.monotonic() + settings.loop.guard_every_s
                promoter.guard()
            promoter.promote()
            promoter.announce()
            trouble = ""
        except AWAY as error:
            said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            if said != trouble:
                logger.warning("%s; tried again", said)
            trouble = said
        detail = promoter.detail()
        tell("ready" if served else "starting", f"{detail}; {trouble}" if trouble else detail)
        stop.wait(settings.loop.check_every_s)


def first_versions(settings: Settings) -> list[Path]:
    """Return the exported versions that the experiment begins with, by number."""
    folder = settings.loop.first_versions
    if folder is None:
        return []
    return sorted(folder.glob("[0-9]*"), key=lambda path: int(path.name))


class _Pulse:
    """Beats once a second, also while models are loaded."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._ended = threading.Event()
        self._state, self._detail = "starting", "waiting for Triton"
        self._heard_s = time.monotonic()

    def take(self, state: str, detail: str) -> None:
        """Note what is told."""
        self._state, self._detail, self._heard_s = state, detail, time.monotonic()

    def beat_until_ended(self) -> None:
        """Beat, unless nothing was heard for long."""
        while not self._ended.wait(BEAT_EVERY_S):
            if time.monotonic() - self._heard_s < SILENT_AT_MOST_S:
                self._beat()

    def end(self) -> None:
        """Beat a last time."""
        self._ended.set()
        self._state = "stopping"
        self._beat()

    def _beat(self) -> None:
        heartbeat.beat(
            self._run_dir,
            heartbeat.Heartbeat(PART, os.getpid(), time.time(), self._state, self._detail, {}),
        )
