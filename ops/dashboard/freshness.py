"""How long a shopper's event takes until a version that learned from it scores an arm, stage by stage.

A judged pair's way: it was shown (the newest impression that the store had when the pair was sampled), sampled,
judged, trained (the first update that took it in) and served (the first version since then that scored an arm).
Event times are the shop's own. An event that reached the store more than `HISTORY_S` after it happened is history
that was loaded: it counts from its arrival, before which nothing here could have learned from it. Where event times
lie after the sampling, the shop's clock runs ahead of this one: the time from event to sampled is then not known, and
is counted as such instead of being shown as zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from clickhouse_connect.driver.client import Client

from ops.dashboard.asking import AT_MS, FINAL, fetch

STAGES = ("sampled", "judged", "trained", "served")
#: The newest judgements that an update took in.
MOST = 5000
HISTORY_S = 300
_LATE = f"dateDiff('second', event_time, ingested_at) > {HISTORY_S}"
_SHOWN_MS = f"if({_LATE}, toUnixTimestamp64Milli(ingested_at), {AT_MS})"


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """When a judged pair came where, epoch milliseconds; None where it has not come or nobody told."""

    kind: str
    update_id: int
    event_ms: int | None
    sampled_ms: int | None
    judged_ms: int
    trained_ms: int


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """How long it took to come to `name` from the point before: quantiles over `pairs` pairs, None without any.

    `share` is this stage's part of the time from event to served, over the pairs whose whole way is known. Of the
    others, `ahead` pairs came before the point before, by `ahead_s` at most: the clocks differ.
    """

    name: str
    pairs: int
    p50_s: float | None
    p95_s: float | None
    share: float | None
    ahead: int
    ahead_s: float


class Freshness(msgspec.Struct, frozen=True, kw_only=True):
    """`pairs` that an update took in, `served` of them in a version that scores or scored an arm. `whole` pairs have
    a way that is known from event to served; the quantiles of it are None without any."""

    pairs: int
    served: int
    whole: int
    p50_s: float | None
    p95_s: float | None
    stages: list[Stage]


def ways(client: Client) -> list[Way]:
    """Return the way of the judgements that updates took in, those of the newest updates first."""
    found = fetch(
        client,
        f"""
        WITH lessons AS (
            SELECT kind, update_id, {AT_MS} AS trained_ms, arrayJoin(used) AS identity
            FROM student_updates WHERE outcome != 'halted' ORDER BY event_time DESC LIMIT {MOST}
        ),
        judged AS (
            SELECT identity, query, item_id, sampled_at, {AT_MS} AS judged_ms
            FROM judgements WHERE identity IN (SELECT identity FROM lessons)
        ),
        shown AS (
            SELECT normalised_query AS query, item_id, ingested_at, toNullable({_SHOWN_MS}) AS event_ms
            FROM pair_events
            WHERE kind = 'impression' AND (normalised_query, item_id) IN (SELECT query, item_id FROM judged)
        )
        SELECT toString(kind) AS kind, update_id, event_ms, toUnixTimestamp64Milli(sampled_at) AS sampled_ms,
            judged_ms, trained_ms
        FROM lessons
        INNER JOIN judged USING identity
        LEFT JOIN (
            SELECT asked.identity AS identity, shown.event_ms AS event_ms
            FROM (
                SELECT identity, query, item_id, assumeNotNull(sampled_at) AS at
                FROM judged WHERE sampled_at IS NOT NULL
            ) AS asked
            ASOF INNER JOIN shown
                ON asked.query = shown.query AND asked.item_id = shown.item_id AND asked.at >= shown.ingested_at
        ) AS seen USING identity
        ORDER BY trained_ms DESC
        {FINAL}, join_use_nulls = 1""",  # noqa: S608 - made of constants
    )
    return [Way(**row) for row in found]


def freshness(found: Sequence[Way], served: Sequence[tuple[str, int, int]]) -> Freshness:
    """Sum up ways. `served` are (kind, update, epoch milliseconds): when the version of an update first scored an
    arm. An update that made no version has its judgements learned by the next that did.

    >>> way = Way(kind="a", update_id=1, event_ms=0, sampled_ms=1000, judged_ms=3000, trained_ms=6000)
    >>> made = freshness([way], [("a", 2, 10_000)])
    >>> made.p50_s, [(stage.name, stage.share) for stage in made.stages]
    (10.0, [('sampled', 0.1), ('judged', 0.2), ('trained', 0.3), ('served', 0.4)])
    """
    points = [
        (way.event_ms, way.sampled_ms, way.judged_ms, way.trained_ms, _served_ms(way, served))
        for way in found
    ]
    whole = [known for each in points if (known := _whole(each)) is not None]
    totals = [each[-1] - each[0] for each in whole]
    all_ms = sum(totals)
    p50_s, p95_s = _quantiles_s(totals)
    stages = []
    for number, name in enumerate(STAGES):
        took = [
            end - start
            for each in points
            if (start := each[number]) is not None and (end := each[number + 1]) is not None
        ]
        forward = [each for each in took if each >= 0]
        stage_p50_s, stage_p95_s = _quantiles_s(forward)
        spent_ms = sum(each[number + 1] - each[number] for each in whole)
        stages.append(
            Stage(
                name=name,
                pairs=len(forward),
                p50_s=stage_p50_s,
                p95_s=stage_p95_s,
                share=spent_ms / all_ms if all_ms else None,
                ahead=len(took) - len(forward),
                ahead_s=max((-each for each in took if each < 0), default=0) / 1000,
            )
        )
    return Freshness(
        pairs=len(points),
        served=sum(each[-1] is not None for each in points),
        whole=len(whole),
        p50_s=p50_s,
        p95_s=p95_s,
        stages=stages,
    )


def _served_ms(way: Way, served: Sequence[tuple[str, int, int]]) -> int | None:
    return min(
        (at_ms for kind, update, at_ms in served if kind == way.kind and update >= way.update_id),
        default=None,
    )


def _whole(points: Sequence[int | None]) -> list[int] | None:
    """Return the points of a way if all are known and none lies before the one before it."""
    known = [each for each in points if each is not None]
    return known if len(known) == len(points) and known == sorted(known) else None


def _quantiles_s(took_ms: Sequence[int]) -> tuple[float | None, float | None]:
    if not took_ms:
        return None, None
    p50, p95 = np.quantile(took_ms, (0.5, 0.95)) / 1000
    return float(p50), float(p95)
