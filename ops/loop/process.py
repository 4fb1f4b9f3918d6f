"""The `loop` part: promotes what passed the gate to the treatment arm, and takes off what does harm.

A part of its own: it needs Triton and the page and neither needs it, so it may be away or start anew at any time
without a query noticing. It remembers nothing; the repository's steps say what has been done.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from clickhouse_connect.driver.exceptions import ClickHouseError
from kafka.errors import KafkaError

from ops.cli.context import CommandError
from ops.clickhouse.client import ClickHouseUnavailableError
from ops.clickhouse.publishing import BrokerSilentError
from ops.endpoints import NotRunningError
from ops.loop.promoter import Promoter
from ops.loop.verdicts import guardrails_since
from ops.pulse import Pulse
from ops.serving.connection import TritonError
from ops.settings import Settings
from students.publishing.publisher import PublishError

PART = "loop"
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
    """Run until `stop` is set. Raises FirstStudentError, VersionError for a first version that is none, LedgerError.

    `bootstrap` is where steps are announced.
    """
    settings = settings.model_copy(update={"kafka": bootstrap})
    promoter = Promoter(settings, partial(guardrails_since, settings))
    with Pulse(settings.run_dir, PART, silent_at_most_s=SILENT_AT_MOST_S) as pulse:
        keep(settings, promoter, stop=stop, tell=pulse.tell)


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
