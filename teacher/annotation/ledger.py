"""Every answer of every annotator, on disk as soon as it is there, so that a killed run resumes where it was.

A sqlite file with one row a (pair, annotator, sample): the key is unique, so no answer counts twice. Rows survive
SIGKILL of the process; after a power cut the last few may be missing and are asked again. One process at a time.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

import msgspec

from streams.records import Judgement
from teacher.annotation.review import Review
from teacher.parsing import Refusal

#: Marks the file as ours in sqlite's header ("RLan").
APPLICATION_ID = 0x524C616E
FORM = 1
_TABLES = """
CREATE TABLE annotators (
    name TEXT PRIMARY KEY, model TEXT NOT NULL, prompt_hash TEXT NOT NULL, teacher_id TEXT
) STRICT;
CREATE TABLE answers (
    pair TEXT NOT NULL, annotator TEXT NOT NULL, sample INTEGER NOT NULL,
    judgement TEXT, refusal TEXT,
    PRIMARY KEY (pair, annotator, sample),
    CHECK ((judgement IS NULL) <> (refusal IS NULL))
) STRICT, WITHOUT ROWID;
CREATE TABLE reviews (pair TEXT PRIMARY KEY, grade TEXT NOT NULL, comment TEXT NOT NULL) STRICT;
"""


class LedgerError(RuntimeError):
    """A ledger cannot be used. The message says why and what to do."""


class Author(msgspec.Struct, frozen=True, kw_only=True):
    """What must not change within a ledger: which model answers under this annotator's name, and to what."""

    model: str
    prompt_hash: str


class Key(msgspec.Struct, frozen=True, order=True):
    """The identity of an answer. `sample` counts from 0."""

    pair: str
    annotator: str
    sample: int


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What an annotator's answers in a ledger took."""

    answers: int
    prompt_tokens: int
    completion_tokens: int


class Ledger:
    """A context manager. Raises LedgerError on entry if another process has the file, if it is no ledger, if it
    is damaged, or if an annotator's model or prompt is another than the one that the file knows."""

    def __init__(self, path: Path, authors: Mapping[str, Author]) -> None:
        self._path = path
        self._authors = authors
        self._database: sqlite3.Connection | None = None
        self._lock = -1

    def __enter__(self) -> Ledger:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # The kernel frees it when the process ends, however it ends. SQLite's own lock would keep readers out too.
        self._lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._database = sqlite3.connect(self._path, isolation_level=None)
            self._open(self._database)
        except BlockingIOError as error:
            self._close()
            raise LedgerError(
                f"{self._path}: another run uses this ledger: wait for it, stop it, or give another --out"
            ) from error
        except sqlite3.DatabaseError as error:
            self._close()
            raise LedgerError(
                f"{self._path}: not a ledger that can be read ({error}): restore it or give another --out"
            ) from error
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        os.close(self._lock)

    def _open(self, database: sqlite3.Connection) -> None:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("BEGIN IMMEDIATE")
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (form,) = database.execute("PRAGMA user_version").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not application and not tables:
            for statement in _TABLES.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {FORM}")
        elif (application, form) != (APPLICATION_ID, FORM):
            raise LedgerError(
                f"{self._path}: expected a ledger of form {FORM}, got another file: give another --out"
            )
        for (problem,) in database.execute("PRAGMA quick_check(1)"):
            if problem != "ok":
                raise sqlite3.DatabaseError(problem)
        self._admit(database)
        database.execute("COMMIT")

    def _admit(self, database: sqlite3.Connection) -> None:
        rows = database.execute("SELECT name, model, prompt_hash FROM annotators")
        known = {name: Author(model=model, prompt_hash=prompt_hash) for name, model, prompt_hash in rows}
        changes = []
        for name, author in self._authors.items():
            before = known.get(name, author)
            if before.model != author.model:
                changes.append(f"annotator {name}: model was {before.model}, is {author.model}")
            elif before != author:
                changes.append(
                    f"annotator {name}: policy, prompt, max_tokens or temperature changed "
                    f"(prompt hash was {before.prompt_hash}, is {author.prompt_hash})"
                )
        if changes:
            raise LedgerError(
                f"{self._path}: its answers are from other settings:\n  "
                + "\n  ".join(changes)
                + "\nresume with the old settings, or give another --out to begin anew"
            )
        database.executemany(
            "INSERT OR IGNORE INTO annotators VALUES (?, ?, ?, NULL)",
            [(name, author.model, author.prompt_hash) for name, author in self._authors.items()],
        )

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            raise LedgerError(f"{self._path}: the ledger is not open")
        return self._database

    def identify(self, annotator: str, teacher_id: str) -> None:
        """Note what the endpoint says it serves. Raises LedgerError if the answers so far are from another model,
        or another annotator is the same one."""
        database = self._opened()
        rows = database.execute("SELECT name, teacher_id FROM annotators WHERE teacher_id IS NOT NULL")
        known = dict(rows.fetchall())
        if known.get(annotator, teacher_id) != teacher_id:
            raise LedgerError(
                f"{self._path}: annotator {annotator}: its answers are from {known[annotator]}, the endpoint now "
                f"serves {teacher_id}: serve the former again, or give another --out to begin anew"
            )
        if same := [name for name, other in known.items() if other == teacher_id and name != annotator]:
            raise LedgerError(
                f"annotators {same[0]} and {annotator} are the same model, {teacher_id}: expected different ones; if "
                "they are, serve them under different names"
            )
        database.execute("UPDATE annotators SET teacher_id = ? WHERE name = ?", (teacher_id, annotator))

    def spent(self) -> dict[str, Spent]:
        """Return what each annotator's answers took."""
        rows = self._opened().execute(
            "SELECT annotator, count(*), sum(answer ->> 'prompt_tokens'), sum(answer ->> 'completion_tokens') "
            "FROM (SELECT annotator, coalesce(judgement, refusal) AS answer FROM answers) GROUP BY annotator"
        )
        return {
            name: Spent(answers=answers, prompt_tokens=prompt, completion_tokens=completion)
            for name, answers, prompt, completion in rows
        }

    def keys(self) -> set[Key]:
        """Return the keys of all answers."""
        return {Key(*row) for row in self._opened().execute("SELECT pair, annotator, sample FROM answers")}

    def record(self, key: Key, answer: Judgement | Refusal) -> None:
        """Write an answer. Raises LedgerError if there is one under this key already."""
        encoded = msgspec.json.encode(answer).decode()
        row = (encoded, None) if isinstance(answer, Judgement) else (None, encoded)
        try:
            self._opened().execute(
                "INSERT INTO answers VALUES (?, ?, ?, ?, ?)", (key.pair, key.annotator, key.sample, *row)
            )
        except sqlite3.IntegrityError as error:
            raise LedgerError(f"{self._path}: {key} is answered already") from error
        except sqlite3.OperationalError as error:
            raise LedgerError(f"{self._path}: {error}; what is recorded stays, resume later") from error

    def answers(
        self, pair: str, *, annotators: Iterable[str], samples: int
    ) -> dict[str, list[Judgement | Refusal]]:
        """Return each annotator's answers on a pair, the first `samples` of them, in order."""
        found: dict[str, list[Judgement | Refusal]] = {name: [] for name in annotators}
        rows = self._opened().execute(
            "SELECT annotator, judgement, refusal FROM answers "
            "WHERE pair = ? AND sample < ? ORDER BY annotator, sample",
            (pair, samples),
        )
        for name, judgement, refusal in rows:
            if name in found:
                found[name].append(_answer(judgement, refusal))
        return found

    def review(self, reviews: Mapping[str, Review]) -> None:
        """Write people's reviews by the pair's name; a later one replaces an earlier one."""
        rows = [(pair, review.grade, review.comment) for pair, review in reviews.items()]
        database = self._opened()
        with database:
            database.execute("BEGIN")
            database.executemany("INSERT OR REPLACE INTO reviews VALUES (?, ?, ?)", rows)

    def reviews(self) -> dict[str, Review]:
        """Return people's reviews by the pair's name."""
        rows = self._opened().execute("SELECT pair, grade, comment FROM reviews")
        return {pair: Review(grade=grade, comment=comment) for pair, grade, comment in rows}


def _answer(judgement: str | None, refusal: str | None) -> Judgement | Refusal:
    if judgement is not None:
        return msgspec.json.decode(judgement, type=Judgement)
    return msgspec.json.decode(refusal or "", type=Refusal)
