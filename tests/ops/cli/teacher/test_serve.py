from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ops.cli.context import CommandError, Context
from ops.cli.teacher import serve as command
from ops.servers.keeping import ServerError
from ops.servers.steps import PreparationError, StoppedError
from ops.settings import Settings, SettingsError
from teacher.probe import ProbeError
from teacher.serving import server
from teacher.serving.weights import ADAPTER_FILES, DEFAULT_ADAPTER, adapter_of


class FakeServer:
    """Remembers how it was started, and fails if told to."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.failure: Exception | None = None
        self.signal: signal.Signals | None = None
        self.started = False

    def serve(self, settings: Settings, *, stop: threading.Event, voice: Any) -> None:
        self.settings, self.started = settings, True
        voice.say("ready\x1b[31m")
        if self.failure:
            raise self.failure
        if self.signal:
            os.kill(os.getpid(), self.signal)
            assert stop.wait(5)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    found = FakeServer()
    monkeypatch.setattr(server, "serve", found.serve)
    return found


def invoke(run_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command.serve, arguments, obj=Context(run_dir=run_dir))


def test_options_become_settings(tmp_path: Path, fake: FakeServer) -> None:
    answer = invoke(tmp_path, "--device", "cuda", "--model", "org/model-7b", "--port", "18011")
    assert answer.exit_code == 0, answer.output
    chosen = fake.settings.teacher_server
    assert (chosen.device, chosen.model, chosen.port) == ("cuda", "org/model-7b", 18011)
    assert fake.settings.run_dir == tmp_path
    assert "ready\\x1b[31m\nstopped" in answer.output


def test_the_adapter_is_left_out_on_demand_only(tmp_path: Path, fake: FakeServer) -> None:
    invoke(tmp_path)
    assert adapter_of(fake.settings.teacher_server) == DEFAULT_ADAPTER
    invoke(tmp_path, "--base")
    assert adapter_of(fake.settings.teacher_server) is None


def test_the_adapter_for_grades_alone_is_a_setting(
    tmp_path: Path, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELEVANCE_TEACHER_SERVER__ADAPTER", "score")
    invoke(tmp_path)
    adapter = adapter_of(fake.settings.teacher_server)
    assert adapter == DEFAULT_ADAPTER.parent / "score"
    assert all((adapter / name).exists() for name in ADAPTER_FILES)


def test_preparing_starts_nothing(tmp_path: Path, fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(settings: Settings, **_: Any) -> tuple[Path, str]:
        return tmp_path, "/models/small"

    monkeypatch.setattr(server, "prepare", prepare)
    answer = invoke(tmp_path, "--prepare")
    assert answer.output == "ready to serve /models/small\n"
    assert not fake.started


def test_base_is_for_the_small_model_alone(tmp_path: Path, fake: FakeServer) -> None:
    answer = invoke(tmp_path, "--base", "--model", "org/model-7b")
    assert isinstance(answer.exception, SettingsError)
    assert "base is for the small model" in str(answer.exception)
    assert not fake.started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_ask_it_to_stop(tmp_path: Path, fake: FakeServer, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    fake.signal = number
    answer = invoke(tmp_path)
    assert answer.exit_code == 0, answer.output
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(
    "failure",
    [PreparationError("no disk"), ServerError("it died"), ProbeError(["no log-probabilities"])],
)
def test_failures_are_told_in_words(tmp_path: Path, fake: FakeServer, failure: Exception) -> None:
    fake.failure = failure
    answer = invoke(tmp_path)
    assert isinstance(answer.exception, CommandError)
    assert str(answer.exception) == str(failure)


def test_stopping_before_it_is_ready_is_no_failure(tmp_path: Path, fake: FakeServer) -> None:
    fake.failure = StoppedError("stopped while vLLM was starting")
    answer = invoke(tmp_path)
    assert answer.exit_code == 1
    assert "stopped while vLLM was starting" in answer.output
    assert not isinstance(answer.exception, CommandError)
