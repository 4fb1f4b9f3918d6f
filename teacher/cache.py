"""Judgements kept by their identity, so that no pair is asked twice: a SQLite file in the run directory.

Several processes of one machine may use it: the first judgement of an identity stays. Each judgement is on disk when
`put` returns and survives the process; what a machine that loses power had written last may be asked again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from streams.records import Judgement

FILE_NAME: Final = "judgements.sqlite3"
#: Written into the file's header, so that another program's file is refused; the version is that of the table.
APPLICATION_ID: Final = 0x52454C4A
VERSION: Final = 1
_BUSY_S: Final = 30.0
_WAY_OUT: Final = (
    "if the file is damaged, move it and its -wal and -shm away: its pairs are then judged again"
)
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS judgements (
    query TEXT NOT NULL,
    item_id TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    teacher_id TEXT NOT NULL,
    prompt_hash TEXT NOT NULL,
    judgement BLOB NOT NULL,
    PRIMARY KEY (query, item_id, content_hash, teacher_id, prompt_hash)
) WITHOUT ROWID"""


class CacheError(RuntimeError):
    """The file of judgements cannot be used. The message names it and the way out."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What names a judgement. `query` is cleaned."""

    query: str
    item_id: str
    content_hash: str
    teacher_id: str
    prompt_hash: str


def identity(judgement: Judgement) -> Identity:
    """Return the name of a judgement."""
    return Identity(
        query=judgement.query,
        item_id=judgement.item_id,
        content_hash=judgement.content_hash,
        teacher_id=judgement.teacher_id,
        prompt_hash=judgement.prompt_hash,
    )


class JudgementCache:
    """Judgements by identity. Use as a context manager."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the file, creating it unless `read_only`. Raises CacheError for one that is missing or not ours."""
        self.path = path
        with self._explained():
            if read_only:
                self._file = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = sqlite3.connect(path, timeout=_BUSY_S)
        try:
            with self._explained():
                self._prepare(read_only)
        except BaseException:
            self._file.close()
            raise

    def _prepare(self, read_only: bool) -> None:
        marks = [
            self._file.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        ]
        empty = not self._file.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not (empty and marks == [0, 0] and not read_only) and marks != [APPLICATION_ID, VERSION]:
            raise CacheError(
                f"{self.path}: expected judgements of format {VERSION}, got format {marks[1]} of program "
                f"{marks[0]:#x}; move the file away, a new one is made"
            )
        if read_only:
            return
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = NORMAL")
        with self._file:
            self._file.execute("BEGIN IMMEDIATE")
            self._file.execute(_TABLE)
            self._file.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._file.execute(f"PRAGMA user_version = {VERSION}")

    def __enter__(self) -> JudgementCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def get(self, of: Identity) -> Judgement | None:
        """Return the judgement of that identity, None if there is none. Raises CacheError."""
        with self._explained():
            row = self._file.execute(
                "SELECT judgement FROM judgements WHERE query = ? AND item_id = ? AND content_hash = ? "
                "AND teacher_id = ? AND prompt_hash = ?",
                msgspec.structs.astuple(of),
            ).fetchone()
        return None if row is None else self._decode(row[0])

    def put(self, judgement: Judgement) -> None:
        """Keep a judgement; one of the same identity that is there already stays. Raises CacheError."""
        row = (*msgspec.structs.astuple(identity(judgement)), msgspec.json.encode(judgement))
        with self._explained(), self._file:
            self._file.execute("INSERT INTO judgements VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row)

    def __len__(self) -> int:
        with self._explained():
            count: int = self._file.execute("SELECT count(*) FROM judgements").fetchone()[0]
        return count

    def __iter__(self) -> Iterator[Judgement]:
        with self._explained():
            for (encoded,) in self._file.execute("SELECT judgement FROM judgements"):
                yield self._decode(encoded)

    def _decode(self, encoded: bytes) -> Judgement:
        try:
            return msgspec.json.decode(encoded, type=Judgement)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CacheError(
                f"{self.path}: expected a judgement, got something else ({error}); {_WAY_OUT}"
            ) from error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise CacheError(f"{self.path}: {error}; {_WAY_OUT}") from error
