"""A value that is costly to compute, shared by everyone who looks: computed in a thread, never twice at once.

It is computed only while someone asks, at most once per `every_s`, and takes at most a fifth of the time:
a slow answer makes the value older, not the database busier.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec
from clickhouse_connect.driver.exceptions import ClickHouseError
from kafka.errors import KafkaError
from starlette.concurrency import run_in_threadpool

from ops.experiments.states import StatesUnreadableError

T = TypeVar("T")
BUSY_SHARE = 0.2
#: A store or a broker that gives no answer, as against a mistake in the program.
EXPECTED_ERRORS = (ClickHouseError, KafkaError, StatesUnreadableError, OSError)

log = logging.getLogger(__name__)


class Outcome(msgspec.Struct, Generic[T], frozen=True):
    """The last good value (None before the first), when it was made, and why a newer one failed if so."""

    value: T | None
    at_ms: int
    error: str


class Cached(Generic[T]):
    """Holds the outcome of `compute`. For use inside one event loop."""

    def __init__(self, compute: Callable[[], T], *, every_s: float) -> None:
        self._compute = compute
        self._every_s = every_s
        self._outcome: Outcome[T] = Outcome(None, 0, "")
        self._due_s = 0.0
        self._task: asyncio.Task[None] | None = None

    async def latest(self, *, wait_s: float) -> Outcome[T]:
        """Return the outcome, after waiting at most `wait_s` for a newer one if one is due."""
        if self._task is None or self._task.done():
            if time.monotonic() < self._due_s:
                return self._outcome
            self._task = asyncio.create_task(self._refresh())
        await asyncio.wait({self._task}, timeout=wait_s)
        return self._outcome

    async def _refresh(self) -> None:
        started_s = time.monotonic()
        try:
            value = await run_in_threadpool(self._compute)
        except EXPECTED_ERRORS as error:
            self._failed(error)
        except Exception as error:
            log.exception("could not compute what the page shows")
            self._failed(error)
        else:
            self._outcome = Outcome(value, time.time_ns() // 1_000_000, "")
        ended_s = time.monotonic()
        self._due_s = max(started_s + self._every_s, ended_s + (ended_s - started_s) * (1 / BUSY_SHARE - 1))

    def _failed(self, error: Exception) -> None:
        reason = one_line(error)
        # The page asks every few seconds; a failure that goes on is logged once.
        if reason != self._outcome.error:
            log.warning("could not compute what the page shows: %s", reason)
        self._outcome = Outcome(self._outcome.value, self._outcome.at_ms, reason)


def one_line(error: Exception) -> str:
    """Return an error's first line, at most 300 characters; its type's name if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
