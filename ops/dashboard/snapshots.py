"""The snapshot that every viewer gets: made once, kept for about two seconds, as JSON."""

from __future__ import annotations

import asyncio
import time

import msgspec

from ops.dashboard.cached import Cached, Outcome
from ops.dashboard.health import Health, Part, health
from ops.dashboard.lag import GroupLag
from ops.dashboard.source import Source, StoreNumbers
from ops.experiments.report import ExperimentReport
from ops.settings import Settings

SNAPSHOT_EVERY_S = 2.0
REPORT_EVERY_S = 5.0
#: A slow store makes the numbers older, not the snapshot later.
WAIT_S = 1.0


class ReportState(msgspec.Struct, frozen=True):
    """When the newest report was made (0: not yet), and why a newer one failed. The report itself is
    large and changes less often, so the page fetches it when `at_ms` has changed."""

    at_ms: int
    error: str


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What changes all the time. `at_ms` is when it was made."""

    at_ms: int
    experiment: str
    arms: tuple[str, str]
    health: Health
    parts: list[Part]
    lag: list[GroupLag]
    store: Outcome[StoreNumbers]
    report: ReportState


class Snapshots:
    """Makes snapshots from a source. For use inside one event loop."""

    def __init__(self, settings: Settings, source: Source) -> None:
        self._settings = settings
        self._source = source
        self._store = Cached(source.store, every_s=SNAPSHOT_EVERY_S)
        self._report = Cached(source.report, every_s=REPORT_EVERY_S)
        self._state = Cached(source.state, every_s=REPORT_EVERY_S)
        self._lock = asyncio.Lock()
        self._made_s = float("-inf")
        self._encoded = b""

    async def latest(self) -> bytes:
        """Return the snapshot as JSON, at most about two seconds old."""
        async with self._lock:
            # A viewer that comes a blink before the next one is due takes that one, so all see it in step.
            if time.monotonic() - self._made_s >= 0.9 * SNAPSHOT_EVERY_S:
                self._encoded = msgspec.json.encode(await self._make())
                self._made_s = time.monotonic()
            return self._encoded

    async def health(self) -> Health:
        """Return the verdict on the stack's health."""
        return msgspec.json.decode(await self.latest(), type=_HealthOnly).health

    async def report(self, *, wait_s: float = WAIT_S) -> Outcome[ExperimentReport]:
        """Return the experiment's report, after waiting at most `wait_s` for a newer one if one is due."""
        await self._state.latest(wait_s=WAIT_S)
        return await self._report.latest(wait_s=wait_s)

    async def _make(self) -> Snapshot:
        store, report = await asyncio.gather(self._store.latest(wait_s=WAIT_S), self.report())
        parts, lag = self._source.parts(), self._source.lag()
        now_ms = time.time_ns() // 1_000_000
        experiment = self._settings.experiment
        return Snapshot(
            at_ms=now_ms,
            experiment=experiment.name,
            arms=(experiment.control, experiment.treatment),
            health=health(
                settings=self._settings, parts=parts, lag=lag, store=store, report=report, now_ms=now_ms
            ),
            parts=parts,
            lag=lag,
            store=store,
            report=ReportState(report.at_ms, report.error),
        )


class _HealthOnly(msgspec.Struct, frozen=True):
    health: Health
