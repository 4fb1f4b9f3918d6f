"""The folder of a training run: what it was begun with, where it stands, what came of it.

run.json         what it was begun with: nothing else may go on from its checkpoint
checkpoint.pt    the state that a killed run goes on from
curves.json/svg  losses by step, figures by epoch
student/         the student (see `students.saved`)
training.json    what the run was; written last
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ops.files import write_atomically
from ops.settings import Students as Settings
from students.default_encoder import FILES, default_encoder
from students.examples import TrainingExample, fingerprint
from students.saved import DESCRIPTION, WEIGHTS, Description

RECORD, CHECKPOINT, STUDENT, DONE = "run.json", "checkpoint.pt", "student", "training.json"
#: Settings that change what a run prints or keeps, not what it learns.
INCIDENTAL = ("log_every_s", "save_every_s", "encoder")


class RunFolderError(ValueError):
    """A run cannot begin or go on in this folder. The message says what differs and what to do."""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run was begun with: fingerprints of the weights it starts from and of its data, and the rest."""

    start: str
    data: str
    processes: int
    description: Description
    settings: dict[str, Any]


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished run was.

    `final_loss` is the mean since the point before the last; `watched` the held-out figures after the last epoch;
    `seconds`, `pairs_per_s` and `peak_mb` (resident memory) are those since it was last started, after
    `resumed_from` steps. `evidence_lost` counts as `students.alignment.Lost` says.
    """

    record: RunRecord
    examples: int
    queries: int
    steps: int
    resumed_from: int
    final_loss: float
    watched: dict[str, float]
    evidence_lost: dict[str, int]
    seconds: float
    pairs_per_s: float
    peak_mb: float


def record(
    *,
    start: Path,
    examples: Sequence[TrainingExample],
    description: Description,
    settings: Settings,
    processes: int,
) -> RunRecord:
    """Return the record of a run that starts from a Hugging Face folder or a student's. Raises RunFolderError."""
    return RunRecord(
        start=weights_fingerprint(start),
        data=fingerprint(examples),
        processes=processes,
        description=description,
        settings=settings.model_dump(mode="json", exclude=set(INCIDENTAL)),
    )


def start_of(settings: Settings) -> Path:
    """Return the folder of the encoder that the settings ask for. Raises EncoderError."""
    return settings.encoder or default_encoder()


def begin(out: Path, wanted: RunRecord) -> None:
    """Write the record of a new run, or let a run go on that was begun with the same.

    Raises RunFolderError if the folder's run was begun with something else, or has no readable record.
    """
    if not any((out / name).exists() for name in (RECORD, CHECKPOINT, DONE)):
        write_atomically(out / RECORD, msgspec.json.format(msgspec.json.encode(wanted)) + b"\n")
        return
    try:
        found = msgspec.json.decode((out / RECORD).read_bytes(), type=RunRecord)
    except (OSError, msgspec.DecodeError) as error:
        raise RunFolderError(
            f"{out / RECORD} does not say what the run in {out} was begun with ({error}): name another folder"
        ) from error
    if found != wanted:
        raise RunFolderError(
            f"{out} holds a run that was begun otherwise: {'; '.join(_differences(found, wanted))}. "
            "Give it the same again to go on, or name another folder for a new run"
        )


def finished(out: Path) -> Finished | None:
    """Return what the folder's run was, None if it is not done. Raises RunFolderError for a damaged file."""
    try:
        return msgspec.json.decode((out / DONE).read_bytes(), type=Finished)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise RunFolderError(f"{out / DONE}: expected what a run was, got {error}") from error


def weights_fingerprint(folder: Path) -> str:
    """Return what names an encoder's or a student's weights: 16 hexadecimal digits. Raises RunFolderError."""
    digest = hashlib.blake2b(digest_size=8)
    names = [name for name in (DESCRIPTION, *dict.fromkeys((*FILES, WEIGHTS))) if (folder / name).exists()]
    if not any(name.endswith(".safetensors") for name in names):
        raise RunFolderError(
            f"{folder}: expected a folder with config.json, tokenizer.json and model.safetensors"
        )
    for name in names:
        with (folder / name).open("rb") as file:
            digest.update(name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _differences(found: RunRecord, wanted: RunRecord) -> list[str]:
    before, now = (_flat(msgspec.to_builtins(each)) for each in (found, wanted))
    return [
        f"{name} was {before.get(name)}, is {now.get(name)}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]


def _flat(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{path}{name}.") if isinstance(value, dict) else {path + name: value}
    return found
