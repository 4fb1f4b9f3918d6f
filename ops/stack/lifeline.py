"""A part dies with the process that started it, even when that one is killed with SIGKILL (Linux only).

Without this a `kill -9` of the supervisor would leave its parts running, with the ports and the stores
in their hands. `python -m ops.stack.lifeline COMMAND...` runs any command so.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

#: Each level of the stack names itself here, so that a child can tell whether its parent is still the same.
PARENT_VARIABLE = "STACK_PARENT_PID"
PR_SET_PDEATHSIG = 1


def die_with_parent(last_signal: signal.Signals) -> None:
    """Ask the kernel for `last_signal` when the parent ends; this outlives exec. Exits if it is gone."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(last_signal), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    expected = os.environ.get(PARENT_VARIABLE)
    if expected is not None and os.getppid() != int(expected):
        raise SystemExit("the process that started this one has ended")


if __name__ == "__main__":
    die_with_parent(signal.SIGKILL)
    os.execv(sys.argv[1], sys.argv[1:])
