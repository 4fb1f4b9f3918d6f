"""Processes that share a process group, found in /proc (Linux) and ended together.

vLLM's engine and workers rename themselves, which wipes their environment in /proc; the group is what is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
POLL_S = 0.05
#: How Python's and OpenMP's own regions begin: killed, those who made them leave them behind.
REGIONS = ("/dev/shm/psm_", "/dev/shm/sem.mp-", "/dev/shm/__KMP_REGISTERED_LIB_")


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
    """End a group: SIGTERM, then SIGKILL after `within_s`. Returns when none of it is left, nor its shared memory."""
    left = regions(group)
    _signal(group, signal.SIGTERM)
    deadline_s = time.monotonic() + within_s
    while members(group):
        if time.monotonic() > deadline_s:
            _signal(group, signal.SIGKILL)
        time.sleep(POLL_S)
    remove(left)


def regions(group: int) -> set[Path]:
    """Return the files of shared memory that a group has mapped and that Python or OpenMP made."""
    found = set()
    for pid in members(group):
        with contextlib.suppress(OSError):
            lines = (PROC / str(pid) / "maps").read_text().splitlines()
            paths = (line.split(maxsplit=5)[5] for line in lines if "/dev/shm/" in line)
            found |= {Path(path) for path in paths if path.startswith(REGIONS)}
    return found


def remove(left: Iterable[Path]) -> None:
    """Remove regions of a group that has ended."""
    for path in left:
        path.unlink(missing_ok=True)


def named(group: int, word: str) -> bool:
    """Tell whether a group has members and `word` stands in each one's command line, in upper or lower case."""
    lines = []
    for pid in members(group):
        with contextlib.suppress(OSError):
            lines.append((PROC / str(pid) / "cmdline").read_bytes().lower())
    return bool(lines) and all(word.lower().encode() in line for line in lines)


def resident_mb(group: int) -> float:
    """Return the resident memory of a group in MB, pages that several share counted once."""
    total_mb = 0.0
    for pid in members(group):
        with contextlib.suppress(OSError):
            total_mb += shared_mb(pid)
    return total_mb


def shared_mb(pid: int) -> float:
    """Return a process's share of resident memory in MB, pages that several have divided among them.

    Raises OSError for one that is not there, IndexError for one that has no memory any more.
    """
    text = (PROC / str(pid) / "smaps_rollup").read_text()
    return int(text.split("\nPss:")[1].split()[0]) / 1e3


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
