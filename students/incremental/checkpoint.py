"""What the trainer goes on from after any death: state, offsets and weights in one folder, renamed when it is whole.

FOLDER/checkpoints/NNNNNN/
    state.msgpack    `students.incremental.state.State`
    lineage.json     of its last update, none before the first
    champion/        the student that challengers start from
    previous/        the champion before it
    checkpoint.json  SHA-256 of all these, written last

A folder is written under another name, flushed to disk, then renamed. The latest ones are kept; a damaged one is set
aside and the one before is gone on from, with its offsets, so that nothing is lost.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ops.files import write_atomically
from students import saved
from students.incremental.lineage import Lineage, encoded
from students.incremental.state import State
from students.saved import LoadedStudent, StudentFolderError
from students.version_folder import file_hash

FORMAT = 1
FOLDER, STATE, LINEAGE, MANIFEST = "checkpoints", "state.msgpack", "lineage.json", "checkpoint.json"
CHAMPION, PREVIOUS = "champion", "previous"
#: The student of `trainer.start` and the state before the first update: what a rebuild begins with.
FIRST, BEGUN = "first", "begun.msgpack"
MAKING, DAMAGED = ".making-", "damaged-"


class CheckpointError(RuntimeError):
    """No checkpoint can be gone on from. The message says what to do."""


class _Manifest(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state with its students, and the record of its last update."""

    state: State
    lineage: Lineage | None
    champion: LoadedStudent
    previous: LoadedStudent


def write(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write a checkpoint as number `checkpoint.state.saved`, drop all but the latest `keep`, return its folder.

    Raises OSError, such as for a full disk, with what was there before untouched.
    """
    root = folder / FOLDER
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(f"{MAKING}*"):
        shutil.rmtree(left, ignore_errors=True)
    making = root / f"{MAKING}{secrets.token_hex(4)}"
    try:
        making.mkdir()
        (making / STATE).write_bytes(msgspec.msgpack.encode(checkpoint.state))
        if checkpoint.lineage is not None:
            (making / LINEAGE).write_bytes(encoded(checkpoint.lineage))
        saved.save(checkpoint.champion, making / CHAMPION)
        saved.save(checkpoint.previous, making / PREVIOUS)
        hashes = {str(path.relative_to(making)): file_hash(path) for path in _files(making)}
        (making / MANIFEST).write_bytes(msgspec.json.encode(_Manifest(format=FORMAT, files=hashes)))
        for path in [*_files(making), making / CHAMPION, making / PREVIOUS, making]:
            _flush(path)
        target = root / f"{checkpoint.state.saved:06d}"
        making.rename(target)
        _flush(root)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    for path in numbered(folder)[:-keep]:
        shutil.rmtree(path, ignore_errors=True)
    return target


def newest(folder: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """Return the latest whole checkpoint, None before the first; damaged ones are set aside and told.

    Raises CheckpointError if there are checkpoints and none is whole.
    """
    damaged = []
    for path in reversed(numbered(folder)):
        try:
            found = read(path)
        except CheckpointError as error:
            damaged.append(path)
            say(f"{error}; going on from the checkpoint before it")
            continue
        for each in damaged:
            aside = each.with_name(f"{DAMAGED}{each.name}")
            shutil.rmtree(aside, ignore_errors=True)
            each.rename(aside)
        return found
    if damaged:
        raise CheckpointError(
            f"{folder / FOLDER}: none of {len(damaged)} checkpoints is whole. Move the folder {folder} away to begin"
            " anew from trainer.start: the judgements are read again from the topic"
        )
    return None


def read(path: Path) -> Checkpoint:
    """Read a checkpoint and check every file of it. Raises CheckpointError."""
    try:
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=_Manifest)
        if manifest.format != FORMAT:
            raise CheckpointError(f"{path}: expected format {FORMAT}, got {manifest.format}")
        for name, expected in manifest.files.items():
            if file_hash(path / name) != expected:
                raise CheckpointError(f"{path / name}: damaged, its content is not what was written")
        lineage = None
        if LINEAGE in manifest.files:
            lineage = msgspec.json.decode((path / LINEAGE).read_bytes(), type=Lineage)
        return Checkpoint(
            state=msgspec.msgpack.decode((path / STATE).read_bytes(), type=State),
            lineage=lineage,
            champion=saved.load(path / CHAMPION),
            previous=saved.load(path / PREVIOUS),
        )
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, StudentFolderError) as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error


def begin_with(folder: Path, checkpoint: Checkpoint) -> None:
    """Keep a checkpoint's champion and state for rebuilding. Raises OSError."""
    saved.save(checkpoint.champion, folder / FIRST)
    write_atomically(folder / BEGUN, msgspec.msgpack.encode(checkpoint.state))


def began_with(folder: Path) -> Checkpoint:
    """Return the checkpoint before the first update. Raises CheckpointError, StudentFolderError."""
    student = saved.load(folder / FIRST)
    try:
        state = msgspec.msgpack.decode((folder / BEGUN).read_bytes(), type=State)
    except (OSError, msgspec.DecodeError) as error:
        raise CheckpointError(
            f"{folder / BEGUN}: expected the state before the first update: {error}"
        ) from error
    return Checkpoint(state, None, student, student)


def numbered(folder: Path) -> list[Path]:
    """Return the folders of the checkpoints, oldest first."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(path for path in (folder / FOLDER).iterdir() if path.name.isdigit())
    return []


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
