"""Where the client's item vectors come from: the table beside a version, or the feature store. Each answer names the
version that made it, which the client and the server both compare with the one they ask."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from feature_store.reader import FeatureReader
from ops.scoring import item_vectors
from ops.scoring.item_vectors import ItemVectors
from students.batching import Floats
from students.version_folder import VersionError, path_of, student_version

#: Champion, challenger, and the one before while a switch is under way.
TABLES_KEPT = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KnownVectors:
    """Vectors [m, D] by `version` of the m items for which `known` [n] is true, in the order asked."""

    version: int
    matrix: Floats
    known: npt.NDArray[np.bool_]


class VectorTables:
    """The tables of the versions in a folder, read when they are first asked for. May be shared between threads."""

    def __init__(self, versions: Path) -> None:
        self._versions = versions
        self._tables: dict[int, ItemVectors | None] = {}
        self._lock = threading.Lock()

    def prepare(self, version: int) -> None:
        """Read a version's table before it is needed; none is logged, and its items have no vectors then."""
        with self._lock:
            if version in self._tables:
                return
            try:
                table = item_vectors.load(path_of(self._versions, version))
            except VersionError as error:
                logger.warning("no item vectors: %s", error)
                table = None
            self._tables[version] = table
            for old in list(self._tables)[:-TABLES_KEPT]:
                del self._tables[old]

    def __call__(self, version: int, item_ids: Sequence[str]) -> KnownVectors:
        """Return the vectors that a version made of items."""
        if version not in self._tables:
            self.prepare(version)
        table = self._tables.get(version)
        if table is None:
            return KnownVectors(version, np.zeros((0, 0), np.float32), np.zeros(len(item_ids), np.bool_))
        matrix, known = table.of(item_ids, version=version)
        return KnownVectors(table.version, matrix, known)


def from_feature_store(reader: FeatureReader, version: int, item_ids: Sequence[str]) -> KnownVectors:
    """Return the vectors that the feature store holds of items under a version's own key."""
    found = reader.vectors(student_version("representation", version), item_ids)
    return KnownVectors(version, found.matrix[found.known], found.known)
