"""When pushes became readable: for each push of a view when its rows were written offline and when they were online.

Between these two moments a read may see a row or not, so an audit must know both. The log is a small sqlite file
beside the offline store. A push that a crash cut short has no end; `FeatureWriter.settle` gives
it one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from feature_store.store import folder_of
from ops.settings import Settings

FILE = "pushes.db"
BUSY_S = 10.0
#: Reads older than this can't be audited any more.
KEPT_US = 30 * 24 * 3600 * 1_000_000
_TABLES = """
CREATE TABLE IF NOT EXISTS pushes (
    view TEXT NOT NULL, begun_us INTEGER NOT NULL, online_us INTEGER, PRIMARY KEY (view, begun_us)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rebuilds (begun_us INTEGER PRIMARY KEY, online_us INTEGER);
"""


@dataclass(frozen=True, slots=True)
class Push:
    """Rows of one push, written offline at `begun_us` (their created time), all online from `online_us` on; None
    while under way or cut short. Times in microseconds since the epoch."""

    begun_us: int
    online_us: int | None


class PushLog:
    """The log of a feature store's folder. One process writes, any may read."""

    def __init__(self, settings: Settings) -> None:
        self.path: Path = folder_of(settings).resolve() / FILE

    def begin(self, view: str, begun_us: int) -> None:
        """Note that rows are about to be written. Raises OSError if the file can't be."""
        with self._open() as log:
            log.execute(
                "INSERT INTO pushes VALUES (?, ?, NULL) ON CONFLICT DO UPDATE SET online_us = NULL",
                (view, begun_us),
            )

    def end(self, view: str, begun_us: int, online_us: int) -> None:
        """Note that all rows of a push are online."""
        with self._open() as log:
            log.execute(
                "UPDATE pushes SET online_us = ? WHERE view = ? AND begun_us = ?", (online_us, view, begun_us)
            )

    def begin_rebuild(self, begun_us: int) -> None:
        """Note that the online store is about to be made anew."""
        with self._open() as log:
            log.execute("INSERT OR IGNORE INTO rebuilds VALUES (?, NULL)", (begun_us,))

    def end_rebuild(self, begun_us: int, online_us: int) -> None:
        """Note that all that was offline at `begun_us` is online again. Rebuilds cut short before end with it."""
        with self._open() as log:
            log.execute(
                "UPDATE rebuilds SET online_us = ? WHERE begun_us <= ? AND online_us IS NULL",
                (online_us, begun_us),
            )

    def pushes(self, view: str) -> list[Push]:
        """Return the pushes of a view by time."""
        with self._open() as log:
            found = log.execute(
                "SELECT begun_us, online_us FROM pushes WHERE view = ? ORDER BY begun_us", (view,)
            ).fetchall()
        return [Push(*row) for row in found]

    def unfinished(self, view: str) -> list[int]:
        """Return when pushes begun that have no end."""
        with self._open() as log:
            found = log.execute(
                "SELECT begun_us FROM pushes WHERE view = ? AND online_us IS NULL ORDER BY begun_us", (view,)
            ).fetchall()
        return [begun_us for (begun_us,) in found]

    def rebuilds(self) -> list[Push]:
        """Return the rebuilds by time."""
        with self._open() as log:
            found = log.execute("SELECT begun_us, online_us FROM rebuilds ORDER BY begun_us").fetchall()
        return [Push(*row) for row in found]

    def forget(self, *, now_us: int) -> None:
        """Forget what ended too long ago to be audited, but for the latest push of each view: rows that hold for ever
        can be audited as long as there is a log."""
        with self._open() as log:
            log.execute(
                "DELETE FROM pushes WHERE begun_us < ? AND online_us IS NOT NULL "
                "AND begun_us < (SELECT max(begun_us) FROM pushes AS others WHERE others.view = pushes.view)",
                (now_us - KEPT_US,),
            )
            log.execute("DELETE FROM rebuilds WHERE begun_us < ?", (now_us - KEPT_US,))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=BUSY_S)) as log, log:
                log.execute("PRAGMA journal_mode=WAL")
                log.execute("PRAGMA synchronous=NORMAL")
                log.executescript(_TABLES)
                yield log
        except sqlite3.Error as error:
            raise OSError(f"{self.path}: the log of pushes can't be used: {error}") from error
