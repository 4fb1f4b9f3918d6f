"""Stubs of a server in /proc, and what they leave in shared memory."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from ops.serving import stubs


def test_children_that_are_stubs_are_found_until_they_end(tmp_path: Path) -> None:
    program = tmp_path / stubs.STUB
    # Any program that waits, under the stub's name.
    shutil.copy(shutil.which("cat") or "/bin/cat", program)
    path = tmp_path / "models" / "relevance" / "12" / "model.py"
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    with subprocess.Popen([program, path], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert stubs.running(os.getpid()) == [stubs.Stub(process.pid, "relevance", 12)]
        assert stubs.running(process.pid) == []
        process.kill()
        # It has ended, but nobody has waited for it.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert stubs.running(os.getpid()) == []


def test_only_the_regions_of_the_run_directory_are_removed(tmp_path: Path) -> None:
    mine, other = stubs.region_prefix(Path("/run/a")), stubs.region_prefix(Path("/run/b"))
    assert mine != other
    for name in (f"{mine}1", f"{mine}2", f"{other}1", "triton_python_backend_shm_region_1"):
        (tmp_path / name).touch()
    assert stubs.remove_regions(mine, folder=tmp_path) == 2
    assert {path.name for path in tmp_path.iterdir()} == {f"{other}1", "triton_python_backend_shm_region_1"}
