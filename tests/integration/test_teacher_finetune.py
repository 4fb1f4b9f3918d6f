"""A tiny model fine-tuned for real in the teacher's environment: killed, resumed, exported, merged."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ops.cli.context import CommandError, Context
from ops.cli.teacher.finetune import finetune
from ops.servers.steps import ROOT
from ops.settings import load
from teacher import policy
from teacher.examples import save
from teacher.finetune import run_folder
from teacher.finetune.card import AdapterFacts
from teacher.finetune.launch import Run
from teacher.finetune.outcomes import Compared
from teacher.finetune.settings import FinetuneSettings
from teacher.serving.environment import folder_of, installed_version
from tests.teacher.finetune import samples

pytestmark = pytest.mark.integration

SETTINGS = FinetuneSettings(pairs_per_pack=2, packs_per_step=1, save_steps=2, log_steps=1)
STEPS = 10
#: A resumed run repeats the unkilled one's arithmetic; this allows for the last bit of weights of order 1e-2.
TOLERANCE = 1e-7
PATIENCE_S = 500


@dataclass(frozen=True, slots=True)
class Finished:
    """The runs' folders, the base, the settings file, and what the command printed."""

    base: Path
    settings: Path
    straight: Path
    killed: Path
    step_when_killed: int
    printed: str


@pytest.fixture(scope="module")
def python() -> Path:
    found = folder_of(load().teacher_server) / "bin" / "python"
    if not found.exists() or installed_version(found, "peft") is None:
        pytest.skip(f"no teacher environment at {found}: `relevance teacher serve` makes it")
    return found


@pytest.fixture(scope="module")
def finished(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finetune")
    base = samples.save_base(folder / "base")
    examples, held_out, settings = (folder / name for name in ("train.jsonl", "held-out.jsonl", "s.json"))
    # The same few words make all queries, so the two are told apart by a word of their own.
    save(examples, samples.examples(2 * STEPS))
    save(
        held_out,
        [msgspec.structs.replace(each, query=f"new {each.query}") for each in samples.examples(8, seed=1)],
    )
    settings.write_bytes(msgspec.json.encode(SETTINGS))

    straight = Run(python, str(base), examples, folder / "straight", SETTINGS, policy.default())
    straight.write_inputs()
    subprocess.run(straight.training(), cwd=ROOT, env=quiet(straight), check=True, timeout=PATIENCE_S)

    killed = Run(python, str(base), examples, folder / "killed", SETTINGS, policy.default())
    killed.write_inputs()
    step = kill_after_a_checkpoint(killed)
    options = ["--examples", str(examples), "--out", str(killed.out), "--base", str(base)]
    options += ["--settings", str(settings), "--evaluate", str(held_out)]
    with single_threaded():
        result = CliRunner().invoke(finetune, options, obj=Context(), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return Finished(base, settings, straight.out, killed.out, step, result.output)


def quiet(run: Run) -> dict[str, str]:
    # Two threads that wait for each other on busy cores take longer than one.
    return run.environment() | {"OMP_NUM_THREADS": "1"}


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


def kill_after_a_checkpoint(run: Run) -> int:
    """Start training, kill it with SIGKILL once a checkpoint is there, and return that checkpoint's step."""
    process = subprocess.Popen(run.training(), cwd=ROOT, env=quiet(run), start_new_session=True)
    began_s = time.monotonic()
    while (last := run_folder.last_checkpoint(run.out)) is None:
        assert process.poll() is None, "training ended before it was killed"
        assert time.monotonic() - began_s < PATIENCE_S
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert run_folder.finished(run.out) is None
    return run_folder.step_of(last)


def test_a_killed_run_ends_with_the_adapter_of_one_that_was_not(finished: Finished) -> None:
    assert finished.step_when_killed < STEPS
    told = run_folder.finished(finished.killed)
    assert told is not None
    assert told.resumed
    straight = load_file(finished.straight / "adapter_model.safetensors")
    killed = load_file(finished.killed / "adapter_model.safetensors")
    assert straight.keys() == killed.keys()
    for name, weights in straight.items():
        torch.testing.assert_close(killed[name], weights, rtol=0, atol=TOLERANCE)
    # Second matrices begin as zeros: training moved them.
    assert max(float(w.abs().max()) for name, w in straight.items() if "lora_B" in name) > 1e-3


def test_losses_go_on_where_they_were_and_fall(finished: Finished) -> None:
    last = [run_folder.last_checkpoint(folder) for folder in (finished.straight, finished.killed)]
    assert last[0] is not None
    assert last[1] is not None
    straight, killed = run_folder.losses(last[0]), run_folder.losses(last[1])
    assert [step for step, _ in killed] == list(range(1, STEPS + 1))
    assert [loss for _, loss in killed] == pytest.approx([loss for _, loss in straight], abs=1e-5)
    assert straight[-1][1] < straight[0][1]


def test_the_exported_adapter_is_that_of_the_run_in_bfloat16(finished: Finished) -> None:
    trained = load_file(finished.killed / "adapter_model.safetensors")
    kept = load_file(finished.killed / "adapter" / "adapter_model.safetensors")
    for name, weights in trained.items():
        assert torch.equal(kept[name], weights.to(torch.bfloat16))
    facts = msgspec.json.decode(
        (finished.killed / "adapter" / "training.json").read_bytes(), type=AdapterFacts
    )
    assert facts.base == "base"
    assert facts.losses[-1][0] == STEPS
    assert facts.heldout is not None
    assert (
        str(finished.killed.parent) not in (finished.killed / "adapter" / "adapter_config.json").read_text()
    )
    assert "8 held-out pairs" in (finished.killed / "adapter" / "README.md").read_text()


def test_merged_weights_are_the_base_plus_the_scaled_product(finished: Finished) -> None:
    base = load_file(finished.base / "model.safetensors")
    merged = load_file(finished.killed / "merged" / "model.safetensors")
    adapter = load_file(finished.killed / "adapter" / "adapter_model.safetensors")
    scale = SETTINGS.lora_alpha / SETTINGS.lora_rank
    assert base.keys() == merged.keys()
    changed = 0
    for name, weights in base.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        expected = weights.float()
        if f"{stem}.lora_A.weight" in adapter:
            product = adapter[f"{stem}.lora_B.weight"].float() @ adapter[f"{stem}.lora_A.weight"].float()
            expected = expected + scale * product
            changed += 1
        assert merged[name].dtype == torch.bfloat16
        # Rounding to bfloat16 moves a number by at most 2^-8 of itself.
        torch.testing.assert_close(merged[name].float(), expected, rtol=2**-8, atol=1e-6)
    assert changed == 2 * 7


def test_the_merged_folder_is_a_model_with_tokenizer_and_template(finished: Finished) -> None:
    folder = finished.killed / "merged"
    words = AutoTokenizer.from_pretrained(folder)
    prompt = words.apply_chat_template([{"role": "user", "content": "mug"}], tokenize=False)
    assert prompt == "<|start|>user\nmug<|end|>\n"
    model = AutoModelForCausalLM.from_pretrained(folder)
    logits = model(input_ids=torch.tensor([words("red mug")["input_ids"]])).logits
    assert bool(torch.isfinite(logits).all())


def test_held_out_figures_are_better_after_than_before(finished: Finished) -> None:
    made = msgspec.json.decode((finished.killed / "heldout.json").read_bytes(), type=Compared)
    assert made.pairs == 8
    assert "teacher-forced" in made.read
    assert made.after.answer_loss < made.before.answer_loss
    assert "answer_loss" in finished.printed
    assert "serve it: RELEVANCE_TEACHER_SERVER__MODEL=" in finished.printed


def test_a_finished_run_is_not_resumed_with_other_settings(finished: Finished, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(msgspec.json.encode(msgspec.structs.replace(SETTINGS, seed=2)))
    examples = finished.killed.parent / "train.jsonl"
    options = ["--examples", str(examples), "--out", str(finished.killed), "--base", str(finished.base)]
    with pytest.raises(CommandError, match=r"settings\.seed was 1, is 2"):
        CliRunner().invoke(
            finetune, [*options, "--settings", str(other)], obj=Context(), catch_exceptions=False
        )
