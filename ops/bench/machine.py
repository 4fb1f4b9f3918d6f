"""What every benchmark says of itself: the command, the machine, and a process's memory."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def announce(module: str) -> None:
    """Print the command that runs, and the machine that it runs on."""
    print("command:", f"python -m {module}", *sys.argv[1:])
    print(f"machine: {platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")


def rss_mb(pid: int) -> float:
    """Return a process's resident memory in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES / 1e6
