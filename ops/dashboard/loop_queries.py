"""What the loop's page asks ClickHouse of versions, updates and the teacher's cost."""

from __future__ import annotations

import msgspec
from clickhouse_connect.driver.client import Client

from ops.dashboard.asking import AT_MS, BARS, FINAL, bucket_width_ms, fetch

MAX_STEPS = 2000
MAX_UPDATES = 500
MAX_WHY_CHARS = 1000
MAX_JSON_BYTES = 50_000
HOUR_MS = 3_600_000
#: Cost over time is drawn over the last judgements' day at most.
COST_MS = 24 * HOUR_MS


class StepRow(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a version as it is stored, see `streams.records.StudentStep`; `gate` and `offsets` are JSON."""

    step_id: int
    step: str
    kind: str
    student_version: str
    parent_version: str
    decision: str
    gate: str
    offsets: str
    champion: int
    challenger: int
    previous: int
    pinned: bool
    at_ms: int


class UpdateRow(msgspec.Struct, frozen=True, kw_only=True):
    """An update as it is stored, see `students.incremental.lineage`; `figures`, `ranges` and `alarms` are JSON."""

    kind: str
    update_id: int
    parent_update: int
    student_version: str
    outcome: str
    why: str
    alarms: str
    figures: str
    ranges: str
    judgements: int
    held_out: int
    duplicates: int
    refused: int
    fresh: int
    replayed: int
    seconds: float
    at_ms: int


class VersionTraffic(msgspec.Struct, frozen=True):
    """Impressions that one student version, or a cascade `a+b` of two, scored, and their clicks."""

    student_version: str
    impressions: int
    clicks: int
    first_ms: int
    last_ms: int


class TeacherCost(msgspec.Struct, frozen=True, kw_only=True):
    """What was judged, in all and in the last hour; tokens are sums. `cached_tokens` are part of `prompt_tokens`."""

    judgements: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    refusals: int
    hour_judgements: int
    hour_tokens: int
    hour_refusals: int
    last_ms: int


class CostOverTime(msgspec.Struct, frozen=True):
    """Judgements and tokens in each bucket of time that has some, oldest first: (start, judgements, tokens)."""

    bucket_ms: int
    buckets: list[tuple[int, int, int]]


def steps(client: Client) -> list[StepRow]:
    """Return the newest steps of all versions, oldest first."""
    found = fetch(
        client,
        f"""
        SELECT step_id, step, kind, student_version, parent_version,
            substringUTF8(student_versions.decision, 1, {MAX_WHY_CHARS}) AS decision,
            if(length(student_versions.gate) > {MAX_JSON_BYTES}, '', student_versions.gate) AS gate,
            if(length(student_versions.offsets) > {MAX_JSON_BYTES}, '', student_versions.offsets) AS offsets,
            champion, challenger, previous, pinned, {AT_MS} AS at_ms
        FROM student_versions ORDER BY step_id DESC LIMIT {MAX_STEPS}
        {FINAL}""",  # noqa: S608 - made of constants
    )
    return [StepRow(**row) for row in reversed(found)]


def serving(client: Client, *, kind: str) -> dict[str, int]:
    """Return the version numbers that score each arm now, by arm; none before the first version."""
    found = fetch(
        client,
        f"""
        SELECT champion, challenger FROM student_versions WHERE kind = {{kind:String}}
        ORDER BY step_id DESC LIMIT 1 {FINAL}""",  # noqa: S608 - made of constants; values are bound
        kind=kind,
    )
    if not found or not found[0]["champion"]:
        return {}
    champion, challenger = found[0]["champion"], found[0]["challenger"]
    return {"control": champion, "treatment": challenger or champion}


def updates(client: Client) -> list[UpdateRow]:
    """Return the newest updates of all students, oldest first."""
    found = fetch(
        client,
        f"""
        SELECT kind, update_id, parent_update, student_version, outcome,
            substringUTF8(student_updates.why, 1, {MAX_WHY_CHARS}) AS why,
            if(length(student_updates.alarms) > {MAX_JSON_BYTES}, '', student_updates.alarms) AS alarms,
            if(length(student_updates.figures) > {MAX_JSON_BYTES}, '', student_updates.figures) AS figures,
            if(length(student_updates.ranges) > {MAX_JSON_BYTES}, '', student_updates.ranges) AS ranges,
            judgements, held_out, duplicates, refused, fresh, replayed, seconds, {AT_MS} AS at_ms
        FROM student_updates ORDER BY event_time DESC, update_id DESC LIMIT {MAX_UPDATES}
        {FINAL}""",  # noqa: S608 - made of constants
    )
    return [UpdateRow(**row) for row in reversed(found)]


def version_traffic(client: Client) -> list[VersionTraffic]:
    """Return what each student version, or cascade of two, has scored."""
    found = fetch(
        client,
        f"""
        SELECT student_version, countIf(kind = 'impression') AS impressions,
            uniqExactIf(impression_id, kind = 'click') AS clicks,
            toUnixTimestamp64Milli(min(event_time)) AS first_ms, toUnixTimestamp64Milli(max(event_time)) AS last_ms
        FROM pair_events GROUP BY student_version ORDER BY last_ms DESC, student_version LIMIT {MAX_STEPS}
        {FINAL}""",  # noqa: S608 - made of constants
    )
    return [VersionTraffic(**row) for row in found]


def teacher_cost(client: Client, *, now_ms: int) -> TeacherCost:
    """Sum up what the teacher was asked for and took."""
    (row,) = fetch(
        client,
        f"""
        SELECT count() AS judgements, sum(judgements.prompt_tokens) AS prompt_tokens,
            sum(judgements.cached_tokens) AS cached_tokens, sum(judgements.completion_tokens) AS completion_tokens,
            countIf({AT_MS} > {{since_ms:Int64}}) AS hour_judgements,
            sumIf(judgements.prompt_tokens + judgements.completion_tokens, {AT_MS} > {{since_ms:Int64}})
                AS hour_tokens,
            (SELECT count() FROM teacher_refusals) AS refusals,
            (SELECT countIf({AT_MS} > {{since_ms:Int64}}) FROM teacher_refusals) AS hour_refusals,
            toUnixTimestamp64Milli(max(event_time)) AS last_ms
        FROM judgements
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        since_ms=now_ms - HOUR_MS,
    )
    return TeacherCost(**row)


def cost_over_time(client: Client, *, now_ms: int) -> CostOverTime:
    """Return judgements and tokens over the last day, or over as much of it as has any."""
    since_ms = now_ms - COST_MS
    (first,) = fetch(
        client,
        f"""SELECT toUnixTimestamp64Milli(min(event_time)) AS at_ms, count() AS n FROM judgements
        WHERE {AT_MS} > {{since_ms:Int64}} {FINAL}""",  # noqa: S608 - made of constants; values are bound
        since_ms=since_ms,
    )
    if not first["n"]:
        return CostOverTime(bucket_width_ms(0), [])
    bucket_ms = bucket_width_ms(max(0, now_ms - first["at_ms"]))
    found = fetch(
        client,
        f"""
        SELECT intDiv({AT_MS}, {{bucket_ms:Int64}}) * {{bucket_ms:Int64}} AS at_ms, count() AS n,
            sum(judgements.prompt_tokens + judgements.completion_tokens) AS tokens
        FROM judgements WHERE {AT_MS} > {{since_ms:Int64}} GROUP BY at_ms ORDER BY at_ms LIMIT {4 * BARS}
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        bucket_ms=bucket_ms,
        since_ms=since_ms,
    )
    return CostOverTime(bucket_ms, [(row["at_ms"], row["n"], row["tokens"]) for row in found])
