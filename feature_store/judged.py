"""Which pairs were judged, or sent to be judged, on which text: what a change of an item's content makes obsolete.

A small sqlite file beside the offline store, filled from `relevance.judgements`. It holds the offsets that it is
filled up to, so neither a crash nor its loss makes it wrong: without the file the topic is read from its beginning.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from feature_store.store import folder_of
from ops.settings import Settings

FILE = "judged.db"
BUSY_S = 10.0
_TABLES = """
CREATE TABLE IF NOT EXISTS pairs (
    item_id TEXT NOT NULL, query TEXT NOT NULL, content_hash TEXT NOT NULL,
    PRIMARY KEY (item_id, query, content_hash)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS offsets (partition INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL);
"""


class JudgedPair(msgspec.Struct, frozen=True, gc=False):
    """A pair and the text it was judged on: of a judgement what matters here."""

    query: str
    item_id: str
    content_hash: str


class JudgedPairs:
    """The pairs of a feature store's folder. Methods raise OSError if the file can't be used."""

    def __init__(self, settings: Settings) -> None:
        self.path: Path = folder_of(settings).resolve() / FILE

    def next_offset(self, partition: int) -> int:
        """Return the offset in a partition of `relevance.judgements` up to which it is filled."""
        with self._open() as file:
            found = file.execute(
                "SELECT next_offset FROM offsets WHERE partition = ?", (partition,)
            ).fetchone()
        return int(found[0]) if found else 0

    def add(self, pairs: Iterable[JudgedPair]) -> None:
        """Add pairs that were judged, or sent to be judged, so that they are not sent again."""
        rows = [(pair.item_id, pair.query, pair.content_hash) for pair in pairs]
        with self._open() as file:
            file.executemany("INSERT OR IGNORE INTO pairs VALUES (?, ?, ?)", rows)

    def filled_to(self, next_offsets: Mapping[int, int]) -> None:
        """Note the offsets, by partition, that follow what was added."""
        with self._open() as file:
            file.executemany(
                "INSERT INTO offsets VALUES (?, ?) ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset",
                list(next_offsets.items()),
            )

    def obsolete(self, content: Mapping[str, str]) -> dict[str, list[str]]:
        """Return, for items by their present content hash, the queries judged on other texts alone; items without any
        are left out."""
        found: dict[str, list[str]] = {}
        with self._open() as file:
            for item_id, content_hash in content.items():
                rows = file.execute(
                    "SELECT query FROM pairs WHERE item_id = ? GROUP BY query"
                    " HAVING max(content_hash = ?) = 0 ORDER BY query",
                    (item_id, content_hash),
                ).fetchall()
                if rows:
                    found[item_id] = [query for (query,) in rows]
        return found

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=BUSY_S)) as file, file:
                file.execute("PRAGMA journal_mode=WAL")
                file.executescript(_TABLES)
                yield file
        except sqlite3.Error as error:
            raise OSError(
                f"{self.path}: the judged pairs can't be used: {error}; without the file it is made anew from"
                " relevance.judgements"
            ) from error
