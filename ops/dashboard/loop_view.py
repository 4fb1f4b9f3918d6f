"""The loop's page in data: versions with what became of them, alerts, freshness, sampling, the teacher's cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from clickhouse_connect.driver.client import Client

from ops.dashboard import freshness as fresh
from ops.dashboard import loop_queries, sampling_queries
from ops.dashboard.freshness import Freshness
from ops.dashboard.health import Part
from ops.dashboard.lag import GroupLag
from ops.dashboard.loop_queries import CostOverTime, StepRow, TeacherCost, UpdateRow, VersionTraffic
from ops.dashboard.sampling_queries import SampledGroup, SampledOverTime, TermFigures
from ops.dashboard.teacher_view import usd
from ops.settings import Settings

#: Parts and consumer groups of the loop, in the order of the data's way.
PARTS = ("sampler", "teacher", "trainer", "loop", "triton")
MAX_VERSIONS = 200
MAX_KEPT_BACK = 100


class Figure(msgspec.Struct, frozen=True):
    """A figure of the gate; `low` and `high` are its interval if it has one."""

    value: float | None
    low: float | None
    high: float | None


class GateFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate found of a challenger, differences against its champion; None where it did not measure."""

    golden_auc: float | None
    golden_auc_difference: Figure
    tail_auc_difference: Figure
    calibration_difference: Figure
    tail_queries: float | None
    pair_ms: float | None
    champion_pair_ms: float | None


class StepView(msgspec.Struct, frozen=True):
    """A step of a version; `arm` is what it scores after it: control, treatment, both, or nothing (empty)."""

    step: str
    at_ms: int
    decision: str
    arm: str


class Turn(msgspec.Struct, frozen=True):
    """A stretch of time in which a version scored one arm, or both; `end_ms` is None while it does."""

    arm: str
    start_ms: int
    end_ms: int | None


class VersionView(msgspec.Struct, frozen=True, kw_only=True):
    """A version. `arm` is what it scores now: control, treatment, both, or nothing (empty); then `state` says why.

    `update_id` is None for one that no update made. Counts are of judgements: `judgements` new in its update, `fresh`
    learned that its parent had not, `replayed` beside them; `ranges` are half-open intervals of offsets that the
    update read, `offsets` all that the version has seen, by "topic/partition".
    """

    name: str
    kind: str
    parent: str
    at_ms: int
    arm: str
    state: str
    pinned: bool
    decision: str
    gate: GateFigures
    update_id: int | None
    judgements: int | None
    fresh: int | None
    replayed: int | None
    ranges: dict[str, tuple[int, int]]
    offsets: dict[str, int]
    impressions: int
    clicks: int
    steps: list[StepView]
    turns: list[Turn]


class KeptBack(msgspec.Struct, frozen=True, kw_only=True):
    """An update that made no version: kept (the gate), doubted or halted (a guard), or waiting (it passed and is not
    out yet)."""

    kind: str
    update_id: int
    at_ms: int
    outcome: str
    why: str
    judgements: int
    gate: GateFigures


class Alarm(msgspec.Struct, frozen=True):
    """A guard that fired, see `students.gate.guards`."""

    guard: str
    why: str


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A kind's publishing is stopped: the guards fired in each of its newest `updates`, the first of which was made
    at `since_ms`. `judgements` of them are set aside."""

    kind: str
    since_ms: int
    updates: int
    judgements: int
    alarms: list[Alarm]
    why: str


class LoopOverview(msgspec.Struct, frozen=True, kw_only=True):
    """The page. Lists are newest first; `usd_total` is None where no price is set."""

    versions: list[VersionView]
    kept_back: list[KeptBack]
    alerts: list[Alert]
    updates: dict[str, int]
    freshness: Freshness
    groups: list[SampledGroup]
    terms: list[TermFigures]
    sampled: SampledOverTime
    cost: TeacherCost
    cost_over_time: CostOverTime
    tokens_per_hour: float
    usd_total: float | None
    parts: list[Part]
    lag: list[GroupLag]


def overview(
    client: Client, settings: Settings, *, now_ms: int, parts: Sequence[Part], lag: Sequence[GroupLag]
) -> LoopOverview:
    """Ask for the page. Raises ClickHouseError."""
    steps, updates = loop_queries.steps(client), loop_queries.updates(client)
    cost = loop_queries.teacher_cost(client, now_ms=now_ms)
    outcomes = [update.outcome for update in updates]
    return LoopOverview(
        versions=versions(steps, updates, loop_queries.version_traffic(client)),
        kept_back=kept_back(updates)[:MAX_KEPT_BACK],
        alerts=alerts(updates),
        updates={name: outcomes.count(name) for name in ("passed", "kept", "doubted", "halted")},
        freshness=fresh.freshness(fresh.ways(client), served(steps, updates)),
        groups=sampling_queries.groups(client, now_ms=now_ms),
        terms=sampling_queries.terms(client, now_ms=now_ms),
        sampled=sampling_queries.over_time(client, now_ms=now_ms),
        cost=cost,
        cost_over_time=loop_queries.cost_over_time(client, now_ms=now_ms),
        tokens_per_hour=settings.sampling.tokens_per_hour,
        usd_total=usd(
            settings.teacher, prompt_tokens=cost.prompt_tokens, completion_tokens=cost.completion_tokens
        ),
        parts=[each for each in parts if each.name.rpartition("-")[0] in PARTS or each.name in PARTS],
        lag=[each for each in lag if each.name in PARTS],
    )


def versions(
    steps: Sequence[StepRow], updates: Sequence[UpdateRow], traffic: Sequence[VersionTraffic]
) -> list[VersionView]:
    """Return all versions, newest first. `steps` and `updates` are oldest first."""
    now = {step.kind: step for step in steps}
    made = {update.student_version: update for update in updates if update.student_version}
    of_version: dict[str, list[StepRow]] = {}
    for step in steps:
        of_version.setdefault(step.student_version, []).append(step)
    found = []
    for name, own in of_version.items():
        first, last = own[0], own[-1]
        update = made.get(name)
        arm = _arm(now[first.kind], name)
        scored = [each for each in traffic if name in each.student_version.split("+")]
        found.append(
            VersionView(
                name=name,
                kind=first.kind,
                parent=first.parent_version,
                at_ms=first.at_ms,
                arm=arm,
                state="" if arm else _state(own, now[first.kind]),
                pinned=now[first.kind].pinned and arm in ("control", "both"),
                decision=last.decision,
                gate=gate_figures(first.gate),
                update_id=update.update_id if update else None,
                judgements=update.judgements if update else None,
                fresh=update.fresh if update else None,
                replayed=update.replayed if update else None,
                ranges=_read(update.ranges, dict[str, tuple[int, int]], {}) if update else {},
                offsets=_read(first.offsets, dict[str, int], {}),
                impressions=sum(each.impressions for each in scored),
                clicks=sum(each.clicks for each in scored),
                steps=[StepView(each.step, each.at_ms, each.decision, _arm(each, name)) for each in own],
                turns=turns(name, [step for step in steps if step.kind == first.kind]),
            )
        )
    newest = sorted(found, key=lambda version: (version.at_ms, version.name), reverse=True)
    return [version for place, version in enumerate(newest) if place < MAX_VERSIONS or version.arm]


def turns(name: str, steps: Sequence[StepRow]) -> list[Turn]:
    """Return when a version scored which arm, oldest first; `steps` are all of its kind's."""
    found: list[Turn] = []
    for step in steps:
        arm = _arm(step, name)
        if found and found[-1].end_ms is None:
            if found[-1].arm == arm:
                continue
            found[-1] = Turn(found[-1].arm, found[-1].start_ms, step.at_ms)
        if arm:
            found.append(Turn(arm, step.at_ms, None))
    return found


def served(steps: Sequence[StepRow], updates: Sequence[UpdateRow]) -> list[tuple[str, int, int]]:
    """Return (kind, update, epoch milliseconds) for each version that scored an arm: when it first did."""
    first_ms: dict[str, int] = {}
    for step in steps:
        for number in (step.champion, step.challenger):
            if number:
                first_ms.setdefault(f"{step.kind}-{number}", step.at_ms)
    return [
        (update.kind, update.update_id, first_ms[update.student_version])
        for update in updates
        if update.student_version in first_ms
    ]


def kept_back(updates: Sequence[UpdateRow]) -> list[KeptBack]:
    """Return the updates that made no version, newest first."""
    return [
        KeptBack(
            kind=update.kind,
            update_id=update.update_id,
            at_ms=update.at_ms,
            outcome="waiting" if update.outcome == "passed" else update.outcome,
            why=update.why,
            judgements=update.judgements,
            gate=gate_figures(update.figures),
        )
        for update in reversed(updates)
        if not update.student_version
    ]


def alerts(updates: Sequence[UpdateRow]) -> list[Alert]:
    """Return an alert for each kind whose newest update was halted. `updates` are oldest first."""
    of_kind: dict[str, list[UpdateRow]] = {}
    for update in updates:
        of_kind.setdefault(update.kind, []).append(update)
    found = []
    for kind, own in sorted(of_kind.items()):
        running = next(
            (place for place, each in enumerate(reversed(own)) if each.outcome != "halted"), len(own)
        )
        halted = own[len(own) - running :]
        if halted:
            found.append(
                Alert(
                    kind=kind,
                    since_ms=halted[0].at_ms,
                    updates=len(halted),
                    judgements=sum(each.judgements + each.held_out for each in halted),
                    alarms=_read(halted[-1].alarms, list[Alarm], []),
                    why=halted[-1].why,
                )
            )
    return found


def gate_figures(text: str) -> GateFigures:
    """Read the figures of a gate, however many of them are there."""
    given = _read(text, dict[str, float], {})

    def figure(name: str) -> Figure:
        return Figure(*(given.get(f"{name}.{part}") for part in ("difference", "lower", "upper")))

    return GateFigures(
        golden_auc=given.get("golden.auc"),
        golden_auc_difference=figure("golden.auc"),
        tail_auc_difference=figure("tail.auc"),
        calibration_difference=figure("golden.ece"),
        tail_queries=given.get("tail.queries"),
        pair_ms=given.get("pair_ms"),
        champion_pair_ms=given.get("pair_ms.champion"),
    )


def _arm(step: StepRow, name: str) -> str:
    control = name == f"{step.kind}-{step.champion}"
    treatment = name == f"{step.kind}-{step.challenger or step.champion}"
    return {(True, True): "both", (True, False): "control", (False, True): "treatment"}.get(
        (control, treatment), ""
    )


def _state(own: Sequence[StepRow], now: StepRow) -> str:
    """Return why a version scores no arm, in a word."""
    if own[-1].step in ("retired", "refused", "exported"):
        return own[-1].step
    if any(each.step == "rolled_back" and not _arm(each, each.student_version) for each in own):
        return "rolled_back"
    if own[0].student_version == f"{now.kind}-{now.previous}":
        return "previous"
    return "replaced" if any(_arm(each, each.student_version) for each in own) else "waiting"


def _read(text: str, form: Any, otherwise: Any) -> Any:
    """Return JSON of a column, or `otherwise` where the column holds something else."""
    try:
        return msgspec.json.decode(text, type=form)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return otherwise
