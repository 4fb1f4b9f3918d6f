"""A version of a student as a folder: everything that serves it, under one number that is never used again.

version.json                 what it is (`Manifest`), with the hash of every other file
tokenizer.json               the fast tokenizer
model.PRECISION.onnx         the interaction student's graph
query_encoder.PRECISION.onnx, item_encoder.PRECISION.onnx   the representation student's

PRECISION is fp32, fp16 or int8. A folder is written under a temporary name and renamed when it is whole. Item
vectors lie beside these files: they are made after the version and are bound to it by its number. Needs no more than
`msgspec`, `numpy` and `tokenizers`, since the serving environment reads version.json with it too.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from students.tokenisation import Limits

MANIFEST = "version.json"
TOKENIZER = "tokenizer.json"
#: Raise it when a reader of the present form could not read the next one.
FORMAT = 1

Kind = Literal["interaction", "representation"]
Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
#: The graphs of each kind, by the Triton model that runs them.
GRAPHS: dict[Kind, dict[str, str]] = {
    "interaction": {"interaction": "model"},
    "representation": {"query_encoder": "query_encoder", "item_encoder": "item_encoder"},
}


class VersionError(ValueError):
    """A folder holds no whole version. The message says which file, what was expected and what came."""


class Probe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pair whose score is known: in [0, 1], by precision, as onnxruntime computed it on export."""

    query: str
    item_text: str
    scores: dict[Precision, float]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a version is.

    `version` counts from 1 over both kinds, `parent` is the version it was trained from (0: none). `labels` are the
    grades, best first, `gains` their gains in [0, 1]; `tags` are the interaction student's. `dimensions` is the
    length of the representation student's vectors, whose grade logits are `slope` * cosine + `offset`, one number a
    grade. `offsets` says which judgements it has seen: the next offset of each "topic/partition". `gate` holds the
    figures it was let through with, `fidelity` how far each precision is from fp32. `files` maps names to SHA-256.
    """

    format: int
    version: int
    kind: Kind
    parent: int
    labels: tuple[str, ...]
    gains: tuple[float, ...]
    tags: tuple[str, ...]
    limits: Limits
    dimensions: int
    slope: tuple[float, ...]
    offset: tuple[float, ...]
    offsets: dict[str, int]
    gate: dict[str, float]
    fidelity: dict[str, float]
    probes: tuple[Probe, ...]
    created_ms: int
    files: dict[str, str]

    def __post_init__(self) -> None:
        """Raise ValueError for parts that do not fit each other."""
        if self.format != FORMAT:
            raise ValueError(f"expected format {FORMAT}, got {self.format}")
        if self.version < 1 or self.parent < 0:
            raise ValueError(
                f"expected a version from 1 and a parent from 0, got {self.version}, {self.parent}"
            )
        if len(self.labels) < 2 or len(self.gains) != len(self.labels):
            raise ValueError("expected at least two grades and a gain for each")
        if (self.kind == "interaction") != bool(self.tags):
            raise ValueError("expected tags of an interaction student, and of no other")
        two_towers = self.kind == "representation"
        if two_towers != (self.dimensions > 0) or {len(self.slope), len(self.offset)} != {
            len(self.labels) if two_towers else 0
        }:
            raise ValueError("expected dimensions, and slope and offset of each grade, of two towers only")
        if not self.probes:
            raise ValueError("expected pairs with known scores, got none")

    @property
    def name(self) -> str:
        """Return how records name it, e.g. `interaction-12`."""
        return student_version(self.kind, self.version)


def student_version(kind: str, version: int) -> str:
    """Return how records, the page and the feature store name a version.

    >>> student_version("interaction", 12)
    'interaction-12'
    """
    return f"{kind}-{version}"


def graph_file(stem: str, precision: Precision) -> str:
    """Return the name of a graph's file."""
    return f"{stem}.{precision}.onnx"


def expected_files(kind: Kind) -> set[str]:
    """Return the names of the files that a version of a kind must have beside version.json."""
    return {TOKENIZER} | {graph_file(stem, each) for stem in GRAPHS[kind].values() for each in PRECISIONS}


def path_of(versions: Path, version: int) -> Path:
    """Return where a version lies in the folder of all versions."""
    return versions / str(version)


def reserve_number(versions: Path) -> int:
    """Return the next version number; no other call, in whatever process, gets the same one again."""
    versions.mkdir(parents=True, exist_ok=True)
    with (versions / ".last").open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read().strip()
        if text and not text.isdigit():
            raise VersionError(f"{file.name}: expected the last version number, got {text[:40]!r}")
        there = [int(folder.name) for folder in versions.iterdir() if folder.name.isdigit()]
        number = max([int(text or b"0"), *there]) + 1
        file.truncate(0)
        file.write(str(number).encode())
        file.flush()
        os.fsync(file.fileno())
    return number


@contextmanager
def unfinished(versions: Path) -> Iterator[Path]:
    """Yield a temporary folder beside the versions, removed on the way out unless `finish` has renamed it."""
    folder = versions / f".making-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def finish(folder: Path, versions: Path, make: Callable[[dict[str, str]], Manifest]) -> Path:
    """Turn an unfinished folder into a version: `make` gets the hashes of its files and returns the manifest.

    Raises VersionError if files are missing or the number is taken.
    """
    hashes = {path.name: file_hash(path) for path in sorted(folder.iterdir())}
    manifest = make(hashes)
    _check_names(folder, manifest.kind, set(hashes))
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    target = path_of(versions, manifest.version)
    if target.exists():
        raise VersionError(
            f"{target}: version {manifest.version} exists; take a number from `reserve_number`"
        )
    folder.rename(target)
    return target


def read_manifest(folder: Path) -> Manifest:
    """Read a version's description without touching its other files. Raises VersionError."""
    path = folder / MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise VersionError(f"{folder}: expected a student's version with {MANIFEST}, found none") from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise VersionError(f"{path}: expected the description of a version: {error}") from error


def verify(folder: Path) -> Manifest:
    """Read a version and check that every file of it is whole. Raises VersionError."""
    manifest = read_manifest(folder)
    if folder.name != str(manifest.version):
        raise VersionError(f"{folder}: expected the folder of version {manifest.version} to be named so")
    _check_names(folder, manifest.kind, set(manifest.files))
    for name, expected in manifest.files.items():
        try:
            found = file_hash(folder / name)
        except OSError as error:
            raise VersionError(
                f"{folder / name}: {error.strerror or error}; export the version again"
            ) from error
        if found != expected:
            raise VersionError(
                f"{folder / name}: its content is not what was exported (SHA-256 {found[:12]}..., expected "
                f"{expected[:12]}...): export the version again"
            )
    return manifest


def file_hash(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_names(folder: Path, kind: Kind, names: set[str]) -> None:
    if missing := expected_files(kind) - names:
        raise VersionError(f"{folder}: expected {', '.join(sorted(missing))} of a version of kind {kind}")
    if unknown := {name for name in names if "/" in name or name.startswith(".")}:
        raise VersionError(f"{folder}: expected names of files beside {MANIFEST}, got {sorted(unknown)}")
