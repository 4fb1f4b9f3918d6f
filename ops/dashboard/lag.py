"""How far each consumer group is behind its topics: end less committed offsets, asked every few seconds.

Asking runs in a thread of its own, so a broker that does not answer makes the lag unknown and nothing slower.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

import msgspec
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from ops.group_lag import group_lag
from ops.kafka import connection
from ops.settings import Settings
from ops.stack import broker_probe
from streams.topics import (
    CATALOGUE_ITEMS,
    ENGAGEMENT_WINDOWS,
    JUDGEMENTS,
    METRICS_ROWS,
    PAIRS,
    QUERIES_STATISTICS,
    SHOPPERS_HISTORY,
    UBI_EVENTS,
    UBI_QUERIES,
)

FEATURE_TOPICS = (ENGAGEMENT_WINDOWS, CATALOGUE_ITEMS, QUERIES_STATISTICS, SHOPPERS_HISTORY, JUDGEMENTS)
SAMPLER_TOPICS = (ENGAGEMENT_WINDOWS, CATALOGUE_ITEMS, JUDGEMENTS, PAIRS)
HISTORY_EVERY_S = 10
HISTORY_POINTS = 60
REQUEST_TIMEOUT_MS = 5000


class GroupLag(msgspec.Struct, frozen=True, kw_only=True):
    """Records of `topics` that `group` has not committed yet; None while unknown, then `error` says why.

    `history` holds [epoch milliseconds, records] about every ten seconds, oldest first, ten minutes at most.
    """

    name: str
    group: str
    topics: tuple[str, ...]
    records: int | None
    error: str
    at_ms: int
    history: list[tuple[int, int]]


class LagWatch:
    """Asks for the lag of the project's consumer groups from `start` to `stop`; `latest` never waits."""

    def __init__(self, settings: Settings, bootstrap: str, *, every_s: float = 3.0) -> None:
        self._settings = settings
        self._bootstrap = bootstrap
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag", daemon=True)
        self._groups = (
            ("streams", settings.streams.group, (UBI_QUERIES, UBI_EVENTS)),
            ("metrics", settings.metrics.group, (METRICS_ROWS,)),
            *([("features", settings.features.group, FEATURE_TOPICS)] if settings.stack.features else []),
            *([("sampler", settings.sampling.group, SAMPLER_TOPICS)] if settings.stack.sampler else []),
            *(
                [("teacher", settings.teacher_worker.group, (PAIRS,))]
                if settings.stack.teacher_workers
                else []
            ),
            *([("trainer", settings.trainer.group, (JUDGEMENTS,))] if settings.stack.trainer else []),
        )
        self._history: dict[str, deque[tuple[int, int]]] = {
            name: deque(maxlen=HISTORY_POINTS) for name, _, _ in self._groups
        }
        self._latest = self._unknown("not asked yet")

    def start(self) -> None:
        """Start asking."""
        self._thread.start()

    def stop(self, *, timeout_s: float = 1.0) -> None:
        """Stop asking; a request under way is left behind after `timeout_s`."""
        self._stop.set()
        self._thread.join(timeout_s)

    def latest(self) -> list[GroupLag]:
        """Return what the last answer said, by group."""
        return self._latest

    def _run(self) -> None:
        admin: KafkaAdminClient | None = None
        while not self._stop.is_set():
            try:
                if admin is None:
                    # A client made while nobody listens would keep its thread, so the broker is probed first.
                    if reason := broker_probe.failure(self._settings, self._bootstrap, timeout_s=2.0):
                        raise OSError(reason)
                    admin = KafkaAdminClient(
                        **connection(self._settings, self._bootstrap), request_timeout_ms=REQUEST_TIMEOUT_MS
                    )
                self._latest = self._ask(admin)
            except (KafkaError, OSError) as error:
                reason = (
                    str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
                )
                self._latest = self._unknown(f"the broker at {self._bootstrap} gave no answer: {reason}")
                if admin is not None:
                    admin.close()
                    admin = None
            self._stop.wait(self._every_s)
        if admin is not None:
            admin.close()

    def _ask(self, admin: KafkaAdminClient) -> list[GroupLag]:
        return [self._ask_group(admin, *group) for group in self._groups]

    def _ask_group(self, admin: KafkaAdminClient, name: str, group: str, topics: Sequence[str]) -> GroupLag:
        records = group_lag(admin, group, topics)
        if records is None:
            return self._lag(name, group, tuple(topics), None, f"no topic {' or '.join(topics)} yet")
        return self._lag(name, group, tuple(topics), records, "")

    def _lag(
        self, name: str, group: str, topics: tuple[str, ...], records: int | None, error: str
    ) -> GroupLag:
        at_ms = time.time_ns() // 1_000_000
        history = self._history[name]
        if records is not None and (not history or at_ms - history[-1][0] >= 1000 * HISTORY_EVERY_S):
            history.append((at_ms, records))
        return GroupLag(
            name=name,
            group=group,
            topics=topics,
            records=records,
            error=error,
            at_ms=at_ms,
            history=list(history),
        )

    def _unknown(self, error: str) -> list[GroupLag]:
        return [self._lag(name, group, topics, None, error) for name, group, topics in self._groups]
