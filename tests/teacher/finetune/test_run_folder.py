from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from teacher import policy
from teacher.finetune import run_folder
from teacher.finetune.run_folder import RunFolderError, RunRecord
from teacher.finetune.settings import FinetuneSettings
from tests.teacher.finetune import samples


def base_folder(path: Path, weights: bytes = b"weights") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.safetensors").write_bytes(weights)
    (path / "config.json").write_text("{}")
    return path


def record_of(base: Path, *, seed: int = 0) -> RunRecord:
    return run_folder.record(
        base=base,
        examples=samples.examples(3, seed=seed),
        settings=FinetuneSettings(),
        policy=policy.default(),
    )


def write_checkpoint(out: Path, step: int, *, whole: bool = True) -> Path:
    folder = out / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    history = [{"step": 5, "loss": 2.5}, {"step": step, "loss": 0.5}, {"step": step, "train_runtime": 1.0}]
    state = json.dumps({"log_history": history})
    (folder / "trainer_state.json").write_text(state if whole else state[:20])
    return folder


def test_a_run_goes_on_with_what_it_was_begun_with(tmp_path: Path) -> None:
    base, out = base_folder(tmp_path / "base"), tmp_path / "run"
    run_folder.begin(out, record_of(base))
    write_checkpoint(out, 50)
    run_folder.begin(out, record_of(base))
    assert run_folder.read_record(out) == record_of(base)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"settings": FinetuneSettings(seed=2)}, "settings.seed was 1, is 2"),
        ({"settings": FinetuneSettings(mode="score")}, "settings.mode was chain, is score"),
        ({"processes": 4}, "processes was 1, is 4"),
        ({"base": "another/model"}, "base was .*, is another/model"),
    ],
)
def test_a_run_does_not_go_on_with_something_else(
    tmp_path: Path, changes: dict[str, object], named: str
) -> None:
    base, out = base_folder(tmp_path / "base"), tmp_path / "run"
    run_folder.begin(out, record_of(base))
    with pytest.raises(RunFolderError, match=named):
        run_folder.begin(out, msgspec.structs.replace(record_of(base), **changes))


def test_other_examples_are_another_run(tmp_path: Path) -> None:
    base, out = base_folder(tmp_path / "base"), tmp_path / "run"
    run_folder.begin(out, record_of(base))
    with pytest.raises(RunFolderError, match="data was"):
        run_folder.begin(out, record_of(base, seed=1))


def test_other_weights_under_the_same_name_are_another_base(tmp_path: Path) -> None:
    base, out = base_folder(tmp_path / "base"), tmp_path / "run"
    run_folder.begin(out, record_of(base))
    base_folder(base, b"other weights")
    with pytest.raises(RunFolderError, match="base was"):
        run_folder.begin(out, record_of(base))


def test_a_base_is_the_same_wherever_and_however_it_was_loaded(tmp_path: Path) -> None:
    here, there = base_folder(tmp_path / "here"), base_folder(tmp_path / "there")
    (here / "config.json").write_text('{"hidden_size": 8, "_name_or_path": "a", "rope": {"a": 1, "b": 2}}')
    (there / "config.json").write_text('{"rope": {"b": 2, "a": 1}, "hidden_size": 8}')
    assert run_folder.base_fingerprint(here) == run_folder.base_fingerprint(there)
    (there / "config.json").write_text('{"rope": {"b": 3, "a": 1}, "hidden_size": 8}')
    assert run_folder.base_fingerprint(here) != run_folder.base_fingerprint(there)


def test_another_policy_is_another_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_folder.begin(out, record_of(base_folder(tmp_path / "base")))
    other = run_folder.record(
        base=tmp_path / "base",
        examples=samples.examples(3),
        settings=FinetuneSettings(),
        policy=policy.default().with_grades(policy.YES_NO),
    )
    with pytest.raises(RunFolderError, match="prompt was"):
        run_folder.begin(out, other)


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\xfe", b'{"base": 3}'])
def test_checkpoints_without_a_readable_record_are_refused(tmp_path: Path, content: bytes | None) -> None:
    base, out = base_folder(tmp_path / "base"), tmp_path / "run"
    write_checkpoint(out, 50)
    if content is not None:
        (out / "run.json").write_bytes(content)
    with pytest.raises(RunFolderError, match="does not say what the run"):
        run_folder.begin(out, record_of(base))


def test_the_newest_whole_checkpoint_is_the_last(tmp_path: Path) -> None:
    assert run_folder.last_checkpoint(tmp_path) is None
    write_checkpoint(tmp_path, 50)
    hundredth = write_checkpoint(tmp_path, 100)
    write_checkpoint(tmp_path, 150, whole=False)
    (tmp_path / "checkpoints" / "checkpoint-200").mkdir()
    (tmp_path / "checkpoints" / "checkpoint-best").mkdir()
    assert run_folder.last_checkpoint(tmp_path) == hundredth
    assert run_folder.step_of(hundredth) == 100
    assert run_folder.losses(hundredth) == [(5, 2.5), (100, 0.5)]


def test_data_fingerprint_sees_every_field_and_the_order() -> None:
    examples = samples.examples(4)
    fingerprint = run_folder.data_fingerprint(examples)
    assert len(fingerprint) == 16
    assert run_folder.data_fingerprint(list(examples)) == fingerprint
    assert run_folder.data_fingerprint(examples[::-1]) != fingerprint
    changed = msgspec.structs.replace(examples[0], source="shop 2")
    assert run_folder.data_fingerprint([changed, *examples[1:]]) != fingerprint


def test_a_folder_without_weights_is_no_base(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"expected a model with \*.safetensors"):
        run_folder.base_fingerprint(tmp_path)
    assert run_folder.base_fingerprint("hub/name") == "hub/name"


def test_a_run_is_finished_when_it_says_so(tmp_path: Path) -> None:
    assert run_folder.finished(tmp_path) is None
    (tmp_path / "training.json").write_text("{}")
    with pytest.raises(RunFolderError, match="expected what a run was"):
        run_folder.finished(tmp_path)
