"""The steps of a repository's versions, one JSON line each: written before they count, never changed, sent from here.

The last step of each kind says what holds. Sending is at least once: what the broker has is marked afterwards.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ops.files import write_atomically
from streams.records import StudentStep
from students.version_folder import Kind

KINDS: tuple[Kind, ...] = ("interaction", "representation")


class LedgerError(ValueError):
    """The ledger's file holds something else. The message says where."""


@dataclass(frozen=True, slots=True)
class Route:
    """What serves a kind: version numbers, 0 for none. `pinned`: the champion stays until it is unpinned."""

    champion: int = 0
    challenger: int = 0
    previous: int = 0
    pinned: bool = False


class Ledger:
    """The file `steps.jsonl` in the folder `root`, with what is sent of it."""

    def __init__(self, root: Path) -> None:
        self._path = root / "steps.jsonl"
        self._sent = root / "steps.sent"
        self._lock = root / "steps.lock"
        self._sending = root / "sending.lock"
        root.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def held(self, *, wait: bool = True) -> Iterator[None]:
        """Hold the repository: only one process changes it at a time, others wait.

        Raises BlockingIOError if another holds it and `wait` is false.
        """
        with self._lock.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield

    def steps(self) -> list[StudentStep]:
        """Return all steps. Raises LedgerError; a line that was cut off at the end by a crash never counted."""
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        found = []
        for number, line in enumerate(lines[:-1], start=1):
            try:
                found.append(msgspec.json.decode(line, type=StudentStep))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise LedgerError(f"{self._path} line {number} is no step of a version: {error}") from error
        return found

    def append(self, step: StudentStep) -> None:
        """Write a step so that it outlives a crash. To be called while `held`."""
        with self._path.open("a+b") as file:
            end = file.seek(0, os.SEEK_END)
            content = self._path.read_bytes()
            if content and not content.endswith(b"\n"):
                file.truncate(end - len(content.rpartition(b"\n")[2]))
            file.write(msgspec.json.encode(step) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def waiting(self) -> list[StudentStep]:
        """Return the steps that are not marked as sent. Raises LedgerError."""
        try:
            done = int(self._sent.read_bytes())
        except (FileNotFoundError, ValueError):
            done = 0
        return [step for step in self.steps() if step.step_id > done]

    def send(self, send: Callable[[Sequence[StudentStep]], None]) -> int:
        """Hand the steps that are not marked as sent to `send`, mark them, and return how many they were.

        Others who send wait: an earlier step must not come to the topic after a later one.
        """
        with self._sending.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            waiting = self.waiting()
            if waiting:
                send(waiting)
                write_atomically(self._sent, str(waiting[-1].step_id).encode())
        return len(waiting)


def route_of(steps: Sequence[StudentStep], kind: str) -> Route:
    """Return what serves a kind after these steps."""
    last = next((step for step in reversed(steps) if step.kind == kind), None)
    if last is None:
        return Route()
    return Route(last.champion, last.challenger, last.previous, last.pinned)
