from __future__ import annotations

import subprocess
import sys

import pytest

from ops.servers import launch

READS = f"import os; print(os.nice(0), open({str(launch.AUTOGROUP)!r}).read().split()[-1])"
LOWERED = """
import os, subprocess, sys
os.nice(7)
command = [sys.executable, "-m", "ops.servers.launch", sys.executable, "-c", sys.argv[1]]
subprocess.run(command, start_new_session=True)
"""


@pytest.mark.skipif(
    not launch.AUTOGROUP.exists(), reason="this kernel shares the cores among processes alone"
)
def test_a_session_of_its_own_keeps_our_niceness() -> None:
    shown = subprocess.run([sys.executable, "-c", LOWERED, READS], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["7", "7"]
