"""Processes that share a process group, found in /proc (Linux) and ended together.

vLLM's engine and workers rename themselves, which wipes their environment in /proc; the group is what is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

PROC = Path("/proc")
POLL_S = 0.05


def members(group: int) -> list[int]:
    """Return the pids of a process group; ended ones that nobody has waited for are left out."""
    found = []
    for folder in PROC.glob("[0-9]*"):
        try:
            state, _, its_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            # It has ended meanwhile.
            continue
        if int(its_group) == group and state != "Z":
            found.append(int(folder.name))
    return sorted(found)


def end_group(group: int, *, within_s: float) -> None:
    """End a group: SIGTERM, then SIGKILL after `within_s`. Returns when none of it is left."""
    _signal(group, signal.SIGTERM)
    deadline_s = time.monotonic() + within_s
    while members(group):
        if time.monotonic() > deadline_s:
            _signal(group, signal.SIGKILL)
        time.sleep(POLL_S)


def named(group: int, word: str) -> bool:
    """Tell whether a group has members and `word` stands in each one's command line, in upper or lower case."""
    lines = []
    for pid in members(group):
        with contextlib.suppress(OSError):
            lines.append((PROC / str(pid) / "cmdline").read_bytes().lower())
    return bool(lines) and all(word.lower().encode() in line for line in lines)


def resident_mb(group: int) -> float:
    """Return the resident memory of a group in MB, pages that several share counted once."""
    total_kb = 0
    for pid in members(group):
        with contextlib.suppress(OSError):
            text = (PROC / str(pid) / "smaps_rollup").read_text()
            total_kb += int(text.split("\nPss:")[1].split()[0])
    return total_kb / 1e3


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
