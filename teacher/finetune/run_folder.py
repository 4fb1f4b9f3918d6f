"""The folder of a fine-tuning run: what the run was begun with, and the checkpoint that it goes on from.

run.json          what it was begun with: nothing else may go on from its checkpoints
checkpoints/      the Trainer's; the newest whole one is what a killed run goes on from
training.json     what the run was; it is there once training is done
adapter_*         the adapter, or the whole model's files
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ops.files import write_atomically
from teacher.examples import Example
from teacher.finetune.settings import FinetuneSettings
from teacher.policy import Policy
from teacher.prompt import Mode, prompt_hash

RECORD = "run.json"
CHECKPOINTS = "checkpoints"
#: Written when training is done.
DONE = "training.json"
#: The Trainer writes it last, so a checkpoint that has it is whole.
LAST_WRITTEN = "trainer_state.json"
#: What of a base's folder decides what a run learns.
BASE_FILES = (
    "config.json",
    "*.safetensors",
    "tokenizer.json",
    "chat_template.jinja",
    "tokenizer_config.json",
)
#: What the configurations among them say of how the folder was made, which decides nothing.
INCIDENTAL = ("_name_or_path", "is_local", "local_files_only", "name_or_path", "transformers_version")


class RunFolderError(ValueError):
    """A run cannot go on in this folder. The message says what differs and what to do."""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run was begun with. `processes` is how many devices train together; the rest are fingerprints."""

    base: str
    data: str
    prompt: str
    processes: int
    settings: FinetuneSettings


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished run was. `final_loss` is the mean over the last logged steps, nats an answer token;
    `seconds` are those since the run was last started; `tokens` are those of one epoch."""

    settings: FinetuneSettings
    base: str
    examples: int
    examples_too_long: int
    data_fingerprint: str
    shared_prefix_tokens: int
    tokens: int
    final_loss: float | None
    seconds: int
    resumed: bool


def record(
    *,
    base: Path | str,
    examples: Sequence[Example],
    settings: FinetuneSettings,
    policy: Policy,
    processes: int = 1,
) -> RunRecord:
    """Return the record of a run. Raises RunFolderError for a base folder that holds no model."""
    return RunRecord(
        base=base_fingerprint(base),
        data=data_fingerprint(examples),
        prompt=prompt_hash(policy, Mode(settings.mode), max_tokens=0, temperature=0.0),
        processes=processes,
        settings=settings,
    )


def begin(out: Path, wanted: RunRecord) -> None:
    """Write the record of a new run, or let a run go on that was begun with the same.

    Raises RunFolderError if the folder's run was begun with something else, or has no readable record.
    """
    begun = last_checkpoint(out) is not None or (out / DONE).exists()
    if not begun and not (out / RECORD).exists():
        write_atomically(out / RECORD, msgspec.json.format(msgspec.json.encode(wanted)))
        return
    if (found := read_record(out)) != wanted:
        raise RunFolderError(
            f"{out} holds a run that was begun otherwise: {'; '.join(_differences(found, wanted))}. "
            "Give it the same again to go on, or name another folder for a new run"
        )


def finished(out: Path) -> Training | None:
    """Return what the folder's run was, None if it is not done. Raises RunFolderError for a damaged file."""
    try:
        return msgspec.json.decode((out / DONE).read_bytes(), type=Training)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise RunFolderError(f"{out / DONE}: expected what a run was, got {error}") from error


def read_record(out: Path) -> RunRecord:
    """Return what the folder's run was begun with. Raises RunFolderError if nothing readable says it."""
    try:
        return msgspec.json.decode((out / RECORD).read_bytes(), type=RunRecord)
    except (FileNotFoundError, msgspec.DecodeError) as error:
        raise RunFolderError(
            f"{out / RECORD} does not say what the run in {out} was begun with ({error}): name another folder"
        ) from error


def last_checkpoint(out: Path) -> Path | None:
    """Return the newest checkpoint that was written to its end, None if there is none.

    A run that is killed while it writes leaves half of one behind.
    """
    whole = [
        folder
        for folder in (out / CHECKPOINTS).glob("checkpoint-*")
        if folder.name.removeprefix("checkpoint-").isdigit() and _is_json(folder / LAST_WRITTEN)
    ]
    return max(whole, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """Return the optimiser step after which a checkpoint was written."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def losses(checkpoint: Path) -> list[tuple[int, float]]:
    """Return (step, mean loss an answer token since the last, nats) as the run logged them up to a checkpoint."""
    state: dict[str, Any] = msgspec.json.decode((checkpoint / LAST_WRITTEN).read_bytes())
    return [(int(entry["step"]), float(entry["loss"])) for entry in state["log_history"] if "loss" in entry]


def data_fingerprint(examples: Sequence[Example]) -> str:
    """Return a hash of everything in the examples, in their order: 16 hexadecimal digits."""
    return hashlib.sha256(msgspec.json.Encoder().encode_lines(list(examples))).hexdigest()[:16]


def base_fingerprint(base: Path | str) -> str:
    """Return a hash of a base's weights, tokenizer and template: 16 hexadecimal digits; a hub name is itself."""
    folder = Path(base)
    if not folder.is_dir():
        return str(base)
    files = sorted(path for pattern in BASE_FILES for path in folder.glob(pattern))
    if not any(path.suffix == ".safetensors" for path in files):
        raise RunFolderError(f"{folder}: expected a model with *.safetensors, found none")
    made_of = hashlib.sha256()
    for path in files:
        made_of.update(f"{path.name} {_digest(path)}\n".encode())
    return made_of.hexdigest()[:16]


def _digest(path: Path) -> str:
    if path.name in ("config.json", "tokenizer_config.json"):
        said: dict[str, Any] = msgspec.json.decode(path.read_bytes())
        told = {name: value for name, value in said.items() if name not in INCIDENTAL}
        return hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _differences(found: RunRecord, wanted: RunRecord) -> list[str]:
    def fields(of: RunRecord) -> dict[str, Any]:
        flat = msgspec.to_builtins(of)
        return {**{f"settings.{name}": value for name, value in flat.pop("settings").items()}, **flat}

    before, now = fields(found), fields(wanted)
    return [f"{name} was {before[name]}, is {now[name]}" for name in before if before[name] != now[name]]


def _is_json(path: Path) -> bool:
    try:
        msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return False
    return True
