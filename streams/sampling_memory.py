"""What sampling remembers over restarts: texts of items, pairs asked, what it may spend, what waits to be sent.

One sqlite file of one process. A batch's facts and the offsets behind them are one transaction, and so are the pairs
drawn and their price; they are sent from here afterwards. A kill at any point repeats a sending, never a drawing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from streams.records import Pair
from streams.sampling_budget import TokenBucket

FILE_NAME: Final = "sampling.sqlite3"
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS items (
    item_id TEXT PRIMARY KEY, updated_ms INTEGER NOT NULL, text TEXT NOT NULL, content_hash TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS asked (
    query TEXT NOT NULL, item_id TEXT NOT NULL, content_hash TEXT NOT NULL, teacher TEXT NOT NULL,
    asked_ms INTEGER NOT NULL, PRIMARY KEY (query, item_id, content_hash, teacher)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (number INTEGER PRIMARY KEY, drawn BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS offsets (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger (only INTEGER PRIMARY KEY CHECK (only = 1), state BLOB NOT NULL);
"""


class Ledger(msgspec.Struct, kw_only=True):
    """What was spent and learned. `teacher` names the teacher and prompt of the newest judgement, made at
    `teacher_ms`, empty before the first; `best` and `uniform` are the two shares of the budget, None before the first
    start."""

    teacher: str = ""
    teacher_ms: int = 0
    judgement_tokens: float | None = None
    best: TokenBucket | None = None
    uniform: TokenBucket | None = None


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """A pair that was drawn and waits to be sent; `tokens` is what its judgement is likely to cost."""

    pair: Pair
    tokens: float


class Text(msgspec.Struct, frozen=True):
    """An item's text as the shop offers it now."""

    text: str
    content_hash: str


def teacher_key(teacher_id: str, prompt_hash: str) -> str:
    """Return the name under which pairs of one teacher and prompt are remembered."""
    return f"{teacher_id}\n{prompt_hash}"


class SamplingMemory:
    """The file, as a context manager. Methods raise OSError if it can't be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._explained():
            self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what is written inside one step, all or nothing."""
        with self._explained():
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._file.execute("ROLLBACK")
                raise
            self._file.execute("COMMIT")

    def ledger(self) -> Ledger:
        """Return what was stored last."""
        row = self._one("SELECT state FROM ledger")
        try:
            return msgspec.msgpack.decode(row[0], type=Ledger) if row else Ledger()
        except msgspec.DecodeError as error:
            raise OSError(f"{self.path}: {error}; {_WAY_OUT}") from error

    def store_ledger(self, ledger: Ledger) -> None:
        """Store it in place of the last one."""
        self._run("INSERT OR REPLACE INTO ledger VALUES (1, ?)", (msgspec.msgpack.encode(ledger),))

    def next_offset(self, topic: str, partition: int) -> int:
        """Return the offset up to which a partition is known, 0 for none."""
        row = self._one(
            "SELECT next_offset FROM offsets WHERE topic = ? AND partition = ?", (topic, partition)
        )
        return int(row[0]) if row else 0

    def known_to(self, next_offsets: Mapping[tuple[str, int], int]) -> None:
        """Note the offsets, by topic and partition, that follow what is known."""
        self._run_many(
            "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)",
            [(*of, offset) for of, offset in next_offsets.items()],
        )

    def offer(self, item_id: str, text: Text, *, updated_ms: int) -> None:
        """Note an item's text, the empty one if it was taken out; what is not newer changes nothing."""
        self._run(
            "INSERT INTO items VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET updated_ms = excluded.updated_ms,"
            " text = excluded.text, content_hash = excluded.content_hash"
            " WHERE excluded.updated_ms > items.updated_ms",
            (item_id, updated_ms, text.text, text.content_hash),
        )

    def texts(self, item_ids: Sequence[str]) -> dict[str, Text]:
        """Return the texts of those items that the shop offers."""
        rows = self._all(
            "SELECT item_id, text, content_hash FROM items WHERE text <> '' AND item_id IN"
            " (SELECT value FROM json_each(?))",
            (msgspec.json.encode(item_ids).decode(),),
        )
        return {item_id: Text(text, content_hash) for item_id, text, content_hash in rows}

    def remember(self, pairs: Iterable[tuple[str, str, str, int]], *, teacher: str) -> None:
        """Note (query, item id, content hash, epoch milliseconds) of pairs that were asked; the first time stays."""
        self._run_many(
            "INSERT OR IGNORE INTO asked VALUES (?, ?, ?, ?, ?)",
            [(query, item_id, content_hash, teacher, at_ms) for query, item_id, content_hash, at_ms in pairs],
        )

    def was_asked_of(self, teacher: str) -> None:
        """Say which teacher had been asked while none was known yet."""
        self._run("UPDATE OR IGNORE asked SET teacher = ? WHERE teacher = ''", (teacher,))
        self._run("DELETE FROM asked WHERE teacher = ''", ())

    def asked(self, query: str, *, teacher: str) -> dict[tuple[str, str], int]:
        """Return when each (item id, content hash) was asked under a query, in epoch milliseconds."""
        rows = self._all(
            "SELECT item_id, content_hash, asked_ms FROM asked WHERE query = ? AND teacher = ?",
            (query, teacher),
        )
        return {(item_id, content_hash): int(at_ms) for item_id, content_hash, at_ms in rows}

    def put_out(self, drawn: Iterable[Drawn]) -> None:
        """Keep what was drawn until it is sent."""
        self._run_many(
            "INSERT INTO outbox (drawn) VALUES (?)", [(msgspec.msgpack.encode(each),) for each in drawn]
        )

    def waiting(self) -> list[tuple[int, Drawn]]:
        """Return what was drawn and is not known to be sent, with its number."""
        return [
            (int(number), msgspec.msgpack.decode(drawn, type=Drawn))
            for number, drawn in self._all("SELECT number, drawn FROM outbox ORDER BY number", ())
        ]

    def sent(self, numbers: Iterable[int]) -> None:
        """Forget what has been sent."""
        self._run_many("DELETE FROM outbox WHERE number = ?", [(number,) for number in numbers])

    def _run(self, statement: str, values: Sequence[Any]) -> None:
        with self._explained():
            self._file.execute(statement, values)

    def _run_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        with self._explained():
            self._file.executemany(statement, rows)

    def _all(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._explained():
            return self._file.execute(statement, values).fetchall()

    def _one(self, statement: str, values: Sequence[Any] = ()) -> Any:
        with self._explained():
            return self._file.execute(statement, values).fetchone()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise OSError(f"{self.path}: {error}; {_WAY_OUT}") from error


_WAY_OUT: Final = "moved away it is made anew from the topics, and pairs may be asked again"
