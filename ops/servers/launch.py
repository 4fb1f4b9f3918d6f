"""Becomes another program that is told to end when the process that started it ends: `... launch COMMAND...`.

With SIGTERM vLLM ends its engine; killed outright it would leave gigabytes of engine behind.
"""

from __future__ import annotations

import os
import signal
import sys

from ops.stack.lifeline import die_with_parent

if __name__ == "__main__":
    die_with_parent(signal.SIGTERM)
    os.execv(sys.argv[1], sys.argv[1:])
