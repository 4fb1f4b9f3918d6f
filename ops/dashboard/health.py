"""Is it healthy, and if not, what is wrong: one list of plain sentences from everything that is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from ops.dashboard.cached import Outcome
from ops.dashboard.lag import GroupLag
from ops.experiments.report import ExperimentReport
from ops.settings import Settings
from ops.stack import plan

if TYPE_CHECKING:
    from ops.dashboard.source import StoreNumbers

#: Parts write a sign of life every second.
SILENT_AFTER_S = 10
#: A group this far behind shows numbers that are minutes old at the rates one worker manages.
LAG_RECORDS = 20_000
DEAD_LETTER_SHARE = 0.05
QUIET_AFTER_S = 120

Level = Literal["ok", "warning", "critical"]


class Part(msgspec.Struct, frozen=True):
    """A part's last sign of life, `age_s` seconds ago. `counters` are since its start."""

    name: str
    state: str
    detail: str
    age_s: float
    counters: dict[str, float]


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong, as a sentence."""

    level: Level
    text: str


class Health(msgspec.Struct, frozen=True):
    """`level` is the worst of `problems`; `ok` without any."""

    level: Level
    problems: list[Problem]


def health(
    *,
    settings: Settings,
    parts: Sequence[Part],
    lag: Sequence[GroupLag],
    store: Outcome[StoreNumbers],
    report: Outcome[ExperimentReport],
    now_ms: int,
) -> Health:
    """Judge the stack."""
    problems = [*_of_parts(settings, parts), *_of_lag(lag), *_of_store(store, now_ms)]
    if report.error:
        problems.append(Problem("critical", f"The experiment's report could not be computed: {report.error}"))
    if report.value:
        problems += [
            Problem("critical", f"Guardrail breached: {guardrail.why}.")
            for guardrail in report.value.guardrails
            if guardrail.breached
        ]
    problems.sort(key=lambda problem: ("critical", "warning", "ok").index(problem.level))
    return Health(problems[0].level if problems else "ok", problems)


def expected_parts(settings: Settings) -> list[str]:
    """Return the parts that must be alive; where the broker is elsewhere, its workers may be too."""
    if settings.kafka:
        return []
    more = [part for part, runs in _switched(settings).items() if runs]
    return ["broker", *(f"streams-{n}" for n in range(1, settings.stack.workers + 1)), *more]


def _switched(settings: Settings) -> dict[str, bool]:
    stack = settings.stack
    workers = range(1, settings.teacher_worker.workers + 1)
    return {
        "features": stack.features,
        "sampler": stack.sampler,
        plan.TRITON: plan.has_triton(settings),
        plan.TEACHER_SERVER: plan.has_teacher_server(settings),
        **{f"teacher-worker-{number}": stack.teacher_workers for number in workers},
    }


def _of_parts(settings: Settings, parts: Sequence[Part]) -> list[Problem]:
    problems = []
    known = {part.name for part in parts}
    for name in expected_parts(settings):
        if name not in known:
            problems.append(Problem("critical", f"{name} has not started."))
    for part in parts:
        if part.age_s <= SILENT_AFTER_S:
            continue
        if part.state == "stopping" and part.name not in expected_parts(settings):
            continue
        level: Level = "critical" if part.name in expected_parts(settings) else "warning"
        problems.append(Problem(level, f"{part.name} has given no sign of life for {_duration(part.age_s)}."))
    return problems


def _of_lag(lag: Sequence[GroupLag]) -> list[Problem]:
    problems = []
    for group in lag:
        if group.records is None:
            problems.append(Problem("warning", f"How far {group.name} is behind is unknown: {group.error}."))
        elif group.records > LAG_RECORDS:
            problems.append(
                Problem(
                    "warning",
                    f"{group.name} is {group.records:,} records behind, so the numbers are not current.",
                )
            )
    return problems


def _of_store(store: Outcome[StoreNumbers], now_ms: int) -> list[Problem]:
    if store.error:
        return [Problem("critical", f"The event store gives no answer: {store.error}")]
    if store.value is None:
        return []
    problems = []
    rates = store.value.arrivals.per_s
    events = sum(sum(values) for table, values in rates.items() if table != "dead_letters")
    dead = sum(rates.get("dead_letters", ()))
    if dead > DEAD_LETTER_SHARE * (events + dead):
        share = dead / (events + dead)
        problems.append(
            Problem(
                "warning",
                f"{share:.0%} of the records of the last ten minutes could not be read (dead letters).",
            )
        )
    quiet_s = (now_ms - store.value.totals.last_event_ms) / 1000
    if store.value.totals.last_event_ms and not events and quiet_s > QUIET_AFTER_S:
        problems.append(Problem("warning", f"No event has come in for {_duration(quiet_s)}."))
    return problems


def _duration(seconds: float) -> str:
    """Say a duration in its largest whole unit.

    >>> [_duration(s) for s in (12, 200, 8000, 200_000)]
    ['12 s', '3 min', '2 h', '2 days']
    """
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"
