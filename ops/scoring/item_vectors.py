"""Item vectors of one version: computed in bulk, stored beside the version, read and switched as one.

A table belongs to the version that made it and says so; there is no way to ask one without naming the version.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from feature_store.rows import FeatureRow
from streams.item_text import content_hash
from students.batching import Floats
from students.export.onnx_student import OnnxStudent
from students.version_folder import Precision, VersionError, read_manifest, student_version

FILE = "item_vectors.npz"
#: Items of one push to the feature store: as lists of numbers they take ten times the table's memory.
PUSH_ROWS = 1_000


class WrongVersionError(ValueError):
    """Vectors of one version were asked for another. The message names both."""


@dataclass(frozen=True, slots=True)
class ItemVectors:
    """Vectors [n, D] of `item_ids`, with the hashes of the texts they were made of, by representation `version`."""

    version: int
    item_ids: tuple[str, ...]
    content_hashes: tuple[str, ...]
    matrix: Floats
    places: dict[str, int]

    def of(self, item_ids: Sequence[str], *, version: int) -> tuple[Floats, np.ndarray]:
        """Return vectors [m, D] of the items that are known, and `known` [m], in the order asked.

        Raises WrongVersionError unless `version` made them.
        """
        if version != self.version:
            raise WrongVersionError(
                f"expected item vectors of version {version}, these are of {self.version}"
            )
        places = np.array([self.places.get(item_id, -1) for item_id in item_ids], dtype=np.int64)
        known = places >= 0
        return self.matrix[places[known]], known


def table(
    version: int, item_ids: Sequence[str], content_hashes: Sequence[str], matrix: Floats
) -> ItemVectors:
    """Return a table. Raises ValueError for parts of different lengths or an item that comes twice."""
    places = {item_id: place for place, item_id in enumerate(item_ids)}
    if not len(item_ids) == len(content_hashes) == len(matrix) == len(places):
        raise ValueError(
            f"expected as many vectors as different items, got {len(matrix)} vectors, {len(content_hashes)} hashes"
            f" and {len(places)} different of {len(item_ids)} items"
        )
    return ItemVectors(version, tuple(item_ids), tuple(content_hashes), matrix, places)


def compute(
    folder: Path, items: Sequence[tuple[str, str]], *, precision: Precision, threads: int = 0
) -> ItemVectors:
    """Encode items (id, text as `streams.item_text` makes it) with the version in `folder`, in this process.

    Raises VersionError for a version without towers.
    """
    manifest = read_manifest(folder)
    if manifest.kind != "representation":
        raise VersionError(f"{folder}: expected a representation student, got {manifest.name}")
    texts = [text for _, text in items]
    empty = np.zeros((0, manifest.dimensions), dtype=np.float32)
    opened = OnnxStudent.open(folder, precision=precision, threads=threads)
    vectors = opened.item_vectors(texts) if texts else empty
    return table(manifest.version, [item_id for item_id, _ in items], list(map(content_hash, texts)), vectors)


def save(vectors: ItemVectors, folder: Path) -> Path:
    """Store a table beside its version in one step and return the file. Raises WrongVersionError."""
    manifest = read_manifest(folder)
    if manifest.version != vectors.version:
        raise WrongVersionError(
            f"{folder} is version {manifest.version}, the vectors are of {vectors.version}"
        )
    unfinished = folder / f".{FILE}-{secrets.token_hex(4)}"
    with unfinished.open("wb") as file:
        np.savez(
            file,
            version=np.int64(vectors.version),
            item_ids=np.array(vectors.item_ids, dtype=np.str_),
            content_hashes=np.array(vectors.content_hashes, dtype=np.str_),
            matrix=vectors.matrix,
        )
    return unfinished.replace(folder / FILE)


def load(folder: Path) -> ItemVectors:
    """Read a version's table. Raises VersionError for none, or for one that is damaged or of another version."""
    version = read_manifest(folder).version
    try:
        with np.load(folder / FILE, allow_pickle=False) as held:
            made_by = int(held["version"])
            found = table(made_by, held["item_ids"].tolist(), held["content_hashes"].tolist(), held["matrix"])
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise VersionError(
            f"{folder / FILE}: expected the item vectors of version {version}: {error}"
        ) from error
    if made_by != version:
        raise VersionError(
            f"{folder / FILE}: expected the item vectors of version {version}, got those of {made_by}"
        )
    return found


def rows(vectors: ItemVectors, *, event_us: int) -> Iterator[list[FeatureRow]]:
    """Yield a table as rows of the feature store's `item_vectors` under its version's key, a push at a time."""
    name = student_version("representation", vectors.version)
    for start in range(0, len(vectors.item_ids), PUSH_ROWS):
        part = slice(start, start + PUSH_ROWS)
        yield [
            FeatureRow((item_id, name), {"vector": vector, "content_hash": text_hash}, event_us)
            for item_id, text_hash, vector in zip(
                vectors.item_ids[part],
                vectors.content_hashes[part],
                vectors.matrix[part].tolist(),
                strict=True,
            )
        ]
