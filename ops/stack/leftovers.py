"""Processes of an earlier stack that outlived it (Linux).

Parts are found by the run directory in their environment, servers by the process group that they noted.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from ops.stack import servers
from ops.stack.lifeline import PARENT_VARIABLE

PROC = Path("/proc")


def find(run_dir: Path) -> list[int]:
    """Return the pids of parts and supervisors that belong to the stack of `run_dir`."""
    mine = b"RELEVANCE_RUN_DIR=" + os.fsencode(run_dir.absolute())
    marker = PARENT_VARIABLE.encode() + b"="
    found = []
    for folder in PROC.glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            # It has ended meanwhile, or belongs to somebody else.
            continue
        if mine in variables and any(variable.startswith(marker) for variable in variables):
            found.append(int(folder.name))
    return sorted(found)


def end(run_dir: Path, *, within_s: float) -> list[int]:
    """End what is left: SIGTERM, then SIGKILL after `within_s`. Return the pids that were found."""
    found = find(run_dir)
    _signal(found, signal.SIGTERM)
    deadline = time.monotonic() + within_s
    while find(run_dir):
        if time.monotonic() > deadline:
            _signal(find(run_dir), signal.SIGKILL)
        time.sleep(0.05)
    # The parts that watched them have ended their servers, unless they were killed.
    return found + servers.end_leftovers(run_dir, within_s=within_s)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
