"""follow, accept and rebuild: what they say when something is missing."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from ops.cli.context import CommandError, Context
from ops.cli.students.accept import accept
from ops.cli.students.rebuild import rebuild
from students.incremental.trainer import ACCEPT, folder_of
from tests.students.incremental.samples import write_first, write_golden
from tests.students.samples import write_small_encoder


def run(command: click.Command, context: Context, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, obj=context)


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.chdir(tmp_path)
    return Context(run_dir=tmp_path / "run")


def test_accept_leaves_word_for_the_trainer(context: Context) -> None:
    result = run(accept, context)
    assert result.exit_code == 0, result.output
    assert (folder_of(context.settings()) / ACCEPT).exists()


def test_rebuild_says_which_version_there_is_not(context: Context, tmp_path: Path) -> None:
    out, golden = str(tmp_path / "out"), str(write_golden(tmp_path / "golden.jsonl"))
    assert run(rebuild, context, "3", "--out", out).exit_code == 2
    write_first(folder_of(context.settings()) / "first", write_small_encoder(tmp_path / "encoder"))
    result = run(rebuild, context, "3", "--out", out, "--golden", golden)
    assert isinstance(result.exception, CommandError)
    assert "made version 3" in str(result.exception)
    assert not Path(out).exists()
