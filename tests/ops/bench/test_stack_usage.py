from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from ops.bench import stack_usage
from ops.bench.stack_usage import Process, parts_of, processes
from ops.stack import run_lock


def _tree(**parents: int) -> dict[int, Process]:
    return {int(pid[1:]): Process(parent, 0, 1.0) for pid, parent in parents.items()}


def test_what_is_not_below_the_supervisor_counts_for_nobody() -> None:
    tree = _tree(p1=0, p10=1, p11=10, p12=11, p13=12, p20=1, p21=20)
    # 21 has a part's number of an earlier run.
    found = parts_of(tree, 10, {11: "triton", 13: "stub", 21: "shop"})
    assert found == {10: "supervisor", 11: "triton", 12: "triton", 13: "stub"}


def test_this_process_is_seen_with_its_memory() -> None:
    found = processes()
    mine = found[os.getpid()]
    assert mine.parent == os.getppid()
    assert mine.memory_mb > 10
    assert mine.ticks > 0


def test_without_a_stack_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEVANCE_RUN_DIR", str(tmp_path))
    told = CliRunner().invoke(stack_usage.main, [])
    assert told.exit_code == 1
    assert "no stack runs in" in told.output


def test_a_running_stack_is_told_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEVANCE_RUN_DIR", str(tmp_path))
    monkeypatch.setattr(run_lock, "holder", lambda _: os.getpid())
    told = CliRunner().invoke(stack_usage.main, ["--seconds", "1", "--every", "0.2"])
    assert told.exit_code == 0, told.output
    lines = [line.split() for line in told.output.splitlines()]
    mine, every = (next(line for line in lines if line[:1] == [name]) for name in ("supervisor", "all"))
    assert float(mine[1].replace(",", "")) > 10
    assert every[1:3] == mine[1:3]
