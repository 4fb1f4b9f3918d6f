"""`relevance features` on a real sqlite store."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration


def features(run_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command on a run directory of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ops.cli.main", "--run-dir", str(run_dir), "features", *arguments],
        env=os.environ | {"RELEVANCE_RUN_DIR": str(run_dir)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_apply_through_feast_and_rebuild_from_nothing(tmp_path: Path) -> None:
    rebuilt = features(tmp_path, "rebuild")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert "pair_engagement" in rebuilt.stdout
    listed = features(tmp_path, "feast", "feature-views", "list")
    assert listed.returncode == 0, listed.stderr
    assert "pair_engagement" in listed.stdout


def test_what_feast_refuses_is_an_error(tmp_path: Path) -> None:
    answer = features(tmp_path, "feast", "no-such-command")
    assert answer.returncode == 1
    assert "exit status 2" in answer.stderr
