"""Are the vectors that serve the ones that are stored, and the ones that the version's own graphs make?

Item vectors: the table beside a version, which the ad engine scores with, against the feature store's rows of the
same version, made of the same text, by every bit. Query vectors: what Triton's towers answer against the version's
exported graph in this process, within `COSINE`, since int8 differs by the batch that a query is computed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_store.audit import Audit
from feature_store.audit_views import StoredRead
from ops.endpoints import NotRunningError
from ops.scoring import item_vectors
from ops.scoring.item_vectors import ItemVectors
from ops.scoring.routes import routes_at_hand
from ops.serving.connection import Control, TritonError, texts
from ops.settings import Settings
from students.batching import Floats
from students.export.onnx_student import OnnxStudent
from students.publishing.ledger import LedgerError
from students.publishing.repository import versions_of
from students.version_folder import VersionError, path_of, student_version

#: 1 - cosine of a served query vector and its graph's; those of different versions are further apart.
COSINE = 0.01
ANSWER_WITHIN_S = 10.0

NO_TABLE = "no_table"
NOT_IN_TABLE = "not_in_table"
OTHER_TEXT = "other_text"
UNANSWERED = "unanswered"
NO_SERVER = "no_server"
NO_VERSION = "no_version_here"
NOT_READ = "not_read"


@dataclass(frozen=True, slots=True)
class VectorRead:
    """A vector that serves: of an item or a query, by a version. `served` is None where there is none."""

    key: tuple[str, ...]
    read_us: int | None
    answered_us: int | None
    served: tuple[float, ...] | None

    @property
    def as_of_us(self) -> int | None:
        """Vectors of a version have no time."""
        return None


def audit_tables(settings: Settings, stored: Sequence[StoredRead]) -> Audit[VectorRead]:
    """Compare the tables beside versions with rows of `item_vectors` as they were read."""
    found: Audit[VectorRead] = Audit()
    tables: dict[str, ItemVectors | None] = {}
    for row in stored:
        item_id, version = row.key
        found.reads += 1
        if version not in tables:
            tables[version] = _table(settings, version)
        table = tables[version]
        if row.served is None:
            found.not_comparable[NOT_READ] += 1
        elif table is None:
            found.not_comparable[NO_TABLE] += 1
        elif (place := table.places.get(item_id)) is None:
            found.not_comparable[NOT_IN_TABLE] += 1
        elif table.content_hashes[place] != row.served["content_hash"]:
            found.not_comparable[OTHER_TEXT] += 1
        else:
            vector = tuple(table.matrix[place].tolist())
            if vector == row.served["vector"]:
                found.equal += 1
            else:
                found.differs(VectorRead(row.key, row.read_us, row.answered_us, vector), row.served["vector"])
    return found


def audit_queries(settings: Settings, queries: Sequence[str]) -> Audit[VectorRead]:
    """Compare query vectors of the versions that score the arms: as served, and as their graphs make them."""
    found: Audit[VectorRead] = Audit()
    try:
        route = routes_at_hand(settings).representation
    except LedgerError:
        return found
    versions = [version for version in dict.fromkeys((route.champion, route.challenger)) if version]
    if not versions or not queries:
        return found
    found.reads = len(versions) * len(queries)
    try:
        control = Control(settings, timeout_s=ANSWER_WITHIN_S)
    except NotRunningError:
        found.not_comparable[NO_SERVER] += found.reads
        return found
    with closing(control):
        if not control.live(timeout_s=ANSWER_WITHIN_S):
            found.not_comparable[NO_SERVER] += found.reads
            return found
        for version in versions:
            _audit_version(found, settings, control, version, queries)
    return found


def _audit_version(
    found: Audit[VectorRead], settings: Settings, control: Control, version: int, queries: Sequence[str]
) -> None:
    precision = settings.serving.served_precision
    try:
        student = OnnxStudent.open(path_of(versions_of(settings), version), precision=precision, threads=1)
    except (VersionError, OSError):
        found.not_comparable[NO_VERSION] += len(queries)
        return
    name = student_version("representation", version)
    for query in queries:
        try:
            served: Floats = control.infer("query_tower", version, {"QUERY": texts([[query]])})["VECTOR"][0]
        except TritonError:
            found.not_comparable[UNANSWERED] += 1
            continue
        made = student.query_vectors([query])[0]
        if same_direction(served, made):
            found.equal += 1
        else:
            found.differs(VectorRead((query, name), None, None, _plain(served)), _plain(made))


def same_direction(one: Floats, other: Floats) -> bool:
    """Tell whether two vectors [D] are the same within `COSINE`; never for lengths that differ, zeros or NaN.

    >>> same_direction(np.array([1.0, 0.0]), np.array([2.0, 0.0]))
    True
    >>> same_direction(np.array([1.0, 0.0]), np.array([1.0, 0.5]))
    False
    """
    if one.shape != other.shape:
        return False
    lengths = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return bool(lengths > 0 and 1 - float(one @ other) / lengths <= COSINE)


def _table(settings: Settings, version: str) -> ItemVectors | None:
    kind, _, number = version.rpartition("-")
    if kind != "representation" or not number.isdecimal():
        return None
    try:
        return item_vectors.load(path_of(versions_of(settings), int(number)))
    except VersionError:
        return None


def _plain(vector: Any) -> tuple[float, ...]:
    return tuple(vector.tolist())
