"""Stopping the parts in reverse order within the time there is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from ops.stack import plan
from ops.stack.supervision import Supervisor, SupervisorError

POLL_S = 0.05
STOPPED = ("STOPPED", "EXITED", "FATAL")


def stop_parts(supervisor: Supervisor, parts: Sequence[plan.Part], *, deadline_s: float) -> list[str]:
    """Stop all parts by `deadline_s` (monotonic clock), the broker last; return those that have not.

    A stage that lingers is joined by the next one; all but the broker are killed when its time begins.
    """
    others = [stage for stage in reversed(plan.stages(list(parts))) if stage[0].name != "broker"]
    others_until_s = deadline_s - plan.BROKER_STOPS_WITHIN_S
    asked: list[str] = []
    for stage in others:
        names = [part.name for part in stage]
        _ask(supervisor, names)
        asked += names
        _wait(supervisor, asked, min(others_until_s, time.monotonic() + plan.STAGE_ALONE_S))
    for name in _wait(supervisor, asked, others_until_s):
        # One that ended in between needs no killing.
        with contextlib.suppress(SupervisorError):
            supervisor.kill(name)
    brokers = [part.name for part in parts if part.name == "broker"]
    _ask(supervisor, brokers)
    return _wait(supervisor, [*asked, *brokers], deadline_s)


def _ask(supervisor: Supervisor, names: Sequence[str]) -> None:
    processes = supervisor.processes()
    for name in names:
        if processes[name].statename not in STOPPED:
            # One that ended in between needs no stopping.
            with contextlib.suppress(SupervisorError):
                supervisor.stop(name)


def _wait(supervisor: Supervisor, names: Sequence[str], until_s: float) -> list[str]:
    while True:
        processes = supervisor.processes()
        running = [name for name in names if processes[name].statename not in STOPPED]
        if not running or time.monotonic() > until_s:
            return running
        time.sleep(POLL_S)
