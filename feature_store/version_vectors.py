"""Which versions' item vectors belong into the feature store: those of representation students that serve.

A version's table lies beside it before it is published and never changes, so its rows are of the version's own time
and come out the same however often they are pushed. Steps of a compacted topic may be missing; the versions that the
next one names are enough.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator, Sequence

from feature_store.rows import FeatureRow
from ops.settings import Settings
from streams.records import StudentStep
from students.publishing.repository import versions_of
from students.version_folder import VersionError, path_of, read_manifest

logger = logging.getLogger(__name__)


class VersionVectors:
    """Remembers which versions' tables were pushed since the start."""

    def __init__(self, settings: Settings) -> None:
        self._versions = versions_of(settings)
        self._pushed: set[int] = set()

    def of(self, steps: Iterable[StudentStep]) -> Generator[Iterator[Sequence[FeatureRow]]]:
        """Yield the rows, in parts, of each table that the steps make due; it counts as pushed once the next is
        asked for. A version without a table is logged and left out."""
        for version in serving(steps):
            if version in self._pushed:
                continue
            # Only where there are towers: it brings the graphs' runtime with it.
            from ops.scoring import item_vectors

            folder = path_of(self._versions, version)
            try:
                table, made = item_vectors.load(folder), read_manifest(folder)
            except VersionError as error:
                logger.warning("no item vectors for the feature store: %s", error)
            else:
                yield item_vectors.rows(table, event_us=made.created_ms * 1000)
            self._pushed.add(version)


def serving(steps: Iterable[StudentStep]) -> list[int]:
    """Return the versions of towers that serve, or may be gone back to, after any of the steps, by number."""
    found: set[int] = set()
    for step in steps:
        if step.kind == "representation":
            found |= {step.champion, step.challenger, step.previous}
            if step.step == "published":
                found.add(step.version)
    return sorted(found - {0})
