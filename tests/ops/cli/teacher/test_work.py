"""`relevance teacher work`: what it needs, and what it says where that is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from ops.cli.context import CommandError
from ops.cli.main import cli
from ops.endpoints import NotRunningError
from ops.stack.ports import free_port


def test_a_worker_beyond_their_number_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        cli, ["--run-dir", str(tmp_path), "teacher", "work", "--worker", "3", "--workers", "2"]
    )
    assert result.exit_code == 2
    assert "--worker 3 needs --workers 3 or more" in result.output


def test_without_a_broker_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RELEVANCE_KAFKA", raising=False)
    nowhere = CliRunner().invoke(cli, ["--run-dir", str(tmp_path), "teacher", "work"])
    assert isinstance(nowhere.exception, NotRunningError)
    monkeypatch.setenv("RELEVANCE_KAFKA", f"127.0.0.1:{free_port()}")
    silent = CliRunner().invoke(cli, ["--run-dir", str(tmp_path), "teacher", "work"])
    assert isinstance(silent.exception, CommandError)
    assert "no Kafka answers at 127.0.0.1:" in str(silent.exception)
