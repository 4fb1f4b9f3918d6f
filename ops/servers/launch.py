"""Becomes another program that is told to end when the process that started it ends: `... launch COMMAND...`.

With SIGTERM vLLM ends its engine; killed outright it would leave gigabytes of engine behind. It keeps our niceness,
which a session of its own would lose on kernels that share the cores among sessions first (sched(7), autogroup).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

from ops.stack.lifeline import die_with_parent

AUTOGROUP = Path("/proc/self/autogroup")


def keep_niceness() -> None:
    """Give our session the niceness of our process. Without autogroups, or the right to, it stays as it is."""
    with contextlib.suppress(OSError):
        AUTOGROUP.write_text(str(os.nice(0)))


if __name__ == "__main__":
    die_with_parent(signal.SIGTERM)
    keep_niceness()
    os.execv(sys.argv[1], sys.argv[1:])
