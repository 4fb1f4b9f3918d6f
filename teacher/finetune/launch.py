"""The steps of a fine-tuning run as processes in the teacher's environment, each with its output passed through."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ops.files import write_atomically
from teacher.examples import Example
from teacher.finetune.settings import SEVEN_B, FinetuneSettings
from teacher.policy import Policy
from teacher.serving.command import preloads
from teacher.serving.environment import project_environment

PRESETS = {"small": FinetuneSettings(), "7b": SEVEN_B}
FSDP_CONFIG = Path(__file__).with_name("fsdp.yaml")


class LaunchError(ValueError):
    """A run cannot be started so. The message says what was expected."""


def chosen_settings(preset: str, *, file: Path | None, mode: str | None) -> FinetuneSettings:
    """Return a preset with the fields of a JSON file laid over it, and the mode over both.

    Raises LaunchError for a file that is missing, is not JSON, or names an unknown setting or a wrong value.
    """
    fields: dict[str, Any] = msgspec.to_builtins(PRESETS[preset])
    try:
        given = msgspec.json.decode(file.read_bytes(), type=dict[str, Any]) if file else {}
        chosen = msgspec.convert(fields | given | ({"mode": mode} if mode else {}), FinetuneSettings)
    except (OSError, msgspec.DecodeError) as error:
        raise LaunchError(f"{file}: expected fine-tuning settings as a JSON object: {error}") from error
    positive = (
        "learning_rate",
        "epochs",
        "pairs_per_pack",
        "packs_per_step",
        "max_pair_tokens",
        "save_steps",
    )
    for name in (*positive, "log_steps"):
        if not getattr(chosen, name) > 0:
            raise LaunchError(
                f"fine-tuning setting {name}: expected more than 0, got {getattr(chosen, name)}"
            )
    if chosen.lora_rank < 0:
        raise LaunchError(
            f"fine-tuning setting lora_rank: expected 0 (all weights) or more, got {chosen.lora_rank}"
        )
    if chosen.frozen_prefix and chosen.gradient_checkpointing:
        raise LaunchError(
            "frozen_prefix keeps what gradient_checkpointing would compute again: set one of them"
        )
    return chosen


def refuse_foreign(examples: Sequence[Example], policy: Policy) -> None:
    """Raise LaunchError if there are no examples, or one has a grade or subtask that the policy does not ask for."""
    if not examples:
        raise LaunchError("expected examples to learn from, got none")
    asked = {subtask.name for subtask in policy.subtasks}
    for example in examples:
        if example.grade not in policy.labels:
            raise LaunchError(
                f"item {example.item_id!r}: expected a grade among {', '.join(policy.labels)}, "
                f"got {example.grade!r}: grades and examples must be of one scale"
            )
        if unknown := {line.subtask for line in example.chain} - asked:
            raise LaunchError(
                f"item {example.item_id!r}: the policy does not ask for {', '.join(sorted(unknown))}"
            )


@dataclass(frozen=True, slots=True)
class Run:
    """A run: `python` of the teacher's environment, base (folder or hub name), examples, run folder, GPUs."""

    python: Path
    base: str
    examples: Path
    out: Path
    settings: FinetuneSettings
    policy: Policy
    gpus: int = 1

    def write_inputs(self) -> None:
        """Write settings and policy to the run folder, where the processes read them."""
        write_atomically(self._settings_file, msgspec.json.format(msgspec.json.encode(self.settings)))
        write_atomically(self._policy_file, msgspec.json.format(msgspec.json.encode(self.policy)))

    def training(self) -> list[str]:
        """Return the command that trains; on several GPUs `accelerate launch` with FSDP. It resumes by itself."""
        command = self._module("teacher.finetune.train")
        if self.gpus > 1:
            command = [*self._accelerate(), "--module", "teacher.finetune.train"]
        command += ["--base", self.base, "--examples", str(self.examples), "--out", str(self.out)]
        return [*command, "--settings", str(self._settings_file), "--policy", str(self._policy_file)]

    def heldout(self, examples: Path, told: Path) -> list[str]:
        """Return the command that compares base and result on held-out examples and writes the outcomes."""
        command = self._module("teacher.finetune.heldout")
        command += ["--base", self.base, "--tuned", str(self.out), "--examples", str(examples)]
        command += ["--mode", self.settings.mode, "--out", str(told)]
        return [*command, "--policy", str(self._policy_file), "--device", self.settings.device]

    def export(
        self, *, adapter: Path, base_name: str, base_licence: str, extra: Sequence[str] = ()
    ) -> list[str]:
        """Return the command that writes the adapter as it is kept, with its model card."""
        command = self._module("teacher.finetune.export")
        command += ["--run", str(self.out), "--out", str(adapter), "--examples", str(self.examples)]
        return [*command, "--base-name", base_name, "--base-licence", base_licence, *extra]

    def merge(self, *, adapter: Path, merged: Path) -> list[str]:
        """Return the command that merges an adapter into the base."""
        command = self._module("teacher.finetune.merge")
        return [*command, "--base", self.base, "--adapter", str(adapter), "--out", str(merged)]

    def environment(self) -> dict[str, str]:
        """Return the processes' variables. A base that is a folder is loaded without asking a model hub."""
        environment = project_environment() | {"PYTHONUNBUFFERED": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        if not Path(self.base).is_dir():
            environment = _as_given("HF_HUB_OFFLINE", environment)
        if self.settings.device == "cpu" and (
            libraries := preloads(self.python, os.environ.get("LD_PRELOAD", ""))
        ):
            environment["LD_PRELOAD"] = libraries
        if self.settings.device == "cuda" and self.gpus == 1:
            # With several in sight the Trainer would split each pack over them.
            environment["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        return environment

    @property
    def _settings_file(self) -> Path:
        return self.out / "settings.json"

    @property
    def _policy_file(self) -> Path:
        return self.out / "policy.json"

    def _module(self, name: str) -> list[str]:
        # Ends with us, even when we are killed: two runs in one folder would spoil each other's checkpoints.
        python = str(self.python)
        return [python, "-m", "ops.servers.launch", python, "-m", name]

    def _accelerate(self) -> list[str]:
        command = self._module("accelerate.commands.launch")
        return [*command, "--config_file", str(FSDP_CONFIG), "--num_processes", str(self.gpus)]


def _as_given(name: str, environment: Mapping[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in environment.items() if key != name}
    return kept | ({name: os.environ[name]} if name in os.environ else {})
