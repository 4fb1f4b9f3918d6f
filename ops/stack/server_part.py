"""The parts `triton` and `teacher-server`: what `relevance serve` and `relevance teacher serve` run."""

from __future__ import annotations

import logging
import threading

from ops.servers.keeping import ServerError
from ops.servers.steps import PreparationError, StoppedError
from ops.servers.voice import Voice
from ops.settings import Settings
from ops.stack import plan, servers

logger = logging.getLogger(__name__)


def run(name: str, settings: Settings, *, stop: threading.Event) -> None:
    """Keep a server running until `stop` is set. What it needs has been made before the stack started.

    Exits with the reason if the server cannot be kept running.
    """
    voice = Voice(say=logger.info, waiting=lambda line: None)
    try:
        if name == plan.TRITON:
            from ops.serving import server as triton

            triton.serve(settings, stop=stop, voice=voice, make=False, stops_within_s=servers.STOPS_WITHIN_S)
        else:
            _serve_teacher(settings, stop=stop, voice=voice)
    except StoppedError as error:
        logger.info("%s", error)
    except (PreparationError, ServerError) as error:
        raise SystemExit(str(error)) from None


def _serve_teacher(settings: Settings, *, stop: threading.Event, voice: Voice) -> None:
    from teacher.probe import ProbeError
    from teacher.serving import server as teacher

    try:
        teacher.serve(settings, stop=stop, voice=voice, make=False, stops_within_s=servers.STOPS_WITHIN_S)
    except ProbeError as error:
        raise ServerError(str(error)) from error
