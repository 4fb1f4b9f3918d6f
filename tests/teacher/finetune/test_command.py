from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from ops.cli.context import CommandError, Context
from ops.cli.teacher import finetune as command
from teacher.examples import save
from teacher.finetune import run_folder
from teacher.finetune.outcomes import Comparison, Outcome
from teacher.finetune.run_folder import Training
from teacher.finetune.settings import FinetuneSettings
from tests.teacher.finetune import samples


@dataclass
class Steps:
    """Stands for the processes: notes their modules, writes what they would write."""

    out: Path
    interrupted: bool = False
    ran: list[str] = field(default_factory=list)

    def run(self, command: Sequence[str], *, environment: Any, what: str, mend: str) -> None:
        module = next(each for each in command if each.startswith("teacher.finetune."))
        self.ran.append(module.removeprefix("teacher.finetune."))
        if self.interrupted:
            raise KeyboardInterrupt
        if self.ran[-1] == "train":
            made = Training(
                settings=FinetuneSettings(),
                base="base",
                examples=4,
                examples_too_long=0,
                data_fingerprint="1",
                shared_prefix_tokens=1,
                tokens=1,
                final_loss=1.0,
                seconds=1,
                resumed=False,
            )
            (self.out / "training.json").write_bytes(msgspec.json.encode(made))
        if self.ran[-1] == "heldout":
            outcome = Outcome(
                query="q", grade="E", loss=1.0, tokens=2, grades={"E": 0.7, "S": 0.1, "C": 0.1, "I": 0.1}
            )
            told = Comparison(mode="chain", before=[outcome], after=[outcome])
            Path(command[command.index("--out") + 1]).write_bytes(msgspec.json.encode(told))


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    made = Steps(tmp_path / "run")
    monkeypatch.setattr(command, "run_step", made.run)
    monkeypatch.setattr(command, "ensure_environment", lambda *_, **__: Path("/venv/bin/python"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.safetensors").write_bytes(b"weights")
    save(tmp_path / "train.jsonl", samples.examples(4))
    return made


def invoke(*options: str) -> Result:
    given = ["--examples", "train.jsonl", "--out", "run", "--base", "base", *options]
    return CliRunner().invoke(command.finetune, given, obj=Context(), catch_exceptions=False)


def test_it_trains_exports_and_merges(steps: Steps) -> None:
    result = invoke()
    assert result.exit_code == 0
    assert steps.ran == ["train", "export", "merge"]
    assert run_folder.read_record(steps.out).settings == FinetuneSettings()


def test_run_again_it_does_not_train_again(steps: Steps) -> None:
    invoke()
    invoke()
    assert steps.ran == ["train", "export", "merge", "export", "merge"]


def test_all_weights_are_neither_exported_nor_merged(steps: Steps, tmp_path: Path) -> None:
    (tmp_path / "full.json").write_text('{"lora_rank": 0}')
    assert invoke("--settings", "full.json").exit_code == 0
    assert steps.ran == ["train"]


def test_held_out_pairs_are_compared_between_training_and_export(steps: Steps, tmp_path: Path) -> None:
    held_out = [msgspec.structs.replace(each, query="new") for each in samples.examples(1)]
    save(tmp_path / "held.jsonl", held_out)
    assert invoke("--evaluate", "held.jsonl").exit_code == 0
    assert steps.ran == ["train", "heldout", "export", "merge"]
    assert (steps.out / "heldout.json").exists()


def test_queries_that_are_learned_from_are_not_held_out(steps: Steps) -> None:
    with pytest.raises(CommandError, match="split by query"):
        invoke("--evaluate", "train.jsonl")
    assert steps.ran == []


def test_interrupted_it_says_where_it_goes_on(steps: Steps, capfd: pytest.CaptureFixture[str]) -> None:
    steps.interrupted = True
    with pytest.raises(click.Abort):
        command.finetune.main(
            ["--examples", "train.jsonl", "--out", "run", "--base", "base"],
            standalone_mode=False,
            obj=Context(),
        )
    assert "the same command goes on from the beginning" in capfd.readouterr().err
    checkpoint = steps.out / "checkpoints" / "checkpoint-40"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text("{}")
    with pytest.raises(click.Abort):
        command.finetune.main(
            ["--examples", "train.jsonl", "--out", "run", "--base", "base"],
            standalone_mode=False,
            obj=Context(),
        )
    assert "the same command goes on after step 40" in capfd.readouterr().err


def test_gpus_need_settings_for_them(steps: Steps) -> None:
    with pytest.raises(CommandError, match="device cuda"):
        invoke("--gpus", "2")
    assert steps.ran == []


def test_a_frozen_prefix_is_for_one_device(steps: Steps, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"frozen_prefix": true, "gradient_checkpointing": false}')
    with pytest.raises(CommandError, match="set it to false"):
        invoke("--preset", "7b", "--settings", "settings.json", "--gpus", "2")
    assert steps.ran == []


def test_another_seed_needs_another_folder(steps: Steps, tmp_path: Path) -> None:
    invoke()
    (tmp_path / "other.json").write_text('{"seed": 2}')
    with pytest.raises(CommandError, match=r"settings\.seed was 1, is 2.*name another folder"):
        invoke("--settings", "other.json")


def test_examples_of_another_scale_or_subtask_are_refused(steps: Steps, tmp_path: Path) -> None:
    example = samples.examples(1)[0]
    save(tmp_path / "train.jsonl", [msgspec.structs.replace(example, grade="Yes")])
    with pytest.raises(CommandError, match="expected a grade among E, S, C, I, got 'Yes'"):
        invoke()
    line = msgspec.structs.replace(example.chain[0], subtask="taste")
    save(tmp_path / "train.jsonl", [msgspec.structs.replace(example, chain=(line,))])
    with pytest.raises(CommandError, match="does not ask for taste"):
        invoke()
    assert steps.ran == []


def test_damaged_examples_are_named_before_anything_runs(steps: Steps, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}\n")
    with pytest.raises(CommandError, match=r"train.jsonl:1: expected an example"):
        invoke()
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(CommandError, match="expected examples to learn from"):
        invoke()
    assert steps.ran == []
