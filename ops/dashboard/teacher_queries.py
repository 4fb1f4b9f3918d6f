"""What the teacher's page asks ClickHouse. Every value is bound; every answer has a limit and a time limit.

Tables are read with FINAL, so a pair judged again by the same teacher and prompt counts once. With 200,000
judgements each of these takes 0.02 to 0.2 s on one core.
"""

from __future__ import annotations

import msgspec
from clickhouse_connect.driver.client import Client

from ops.dashboard.asking import AT_MS, BARS, FINAL, bucket_width_ms, fetch
from streams.normalise import normalise_query

MAX_TEACHERS = 20
MAX_CHOICES = 64
MAX_REASONS = 50
MAX_FIGURES = 400
MAX_TEXT_CHARS = 20_000
MAX_JSON_BYTES = 200_000
TITLE_CHARS = 160
#: The grade mix is drawn over the last judgements' month at most.
MIX_MS = 30 * 24 * 3_600_000
LATER_MS = 24 * 3_600_000

IDENTITY = "query, item_id, content_hash, teacher_id, prompt_hash"
#: Orders judgements of the same millisecond; in an address it stands for the whole identity.
ID = f"cityHash64({IDENTITY})"
#: Before this (at_ms, id) is every row.
NEWEST = (2**62, 0)


class TeacherFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What one teacher's judgements under one prompt cost: means of tokens, quantiles of seconds.

    `cached_tokens` are part of `prompt_tokens`; of `quotes` in the chains, `unlocated` stand in neither text.
    Both names are empty in the figures of all teachers together. Times are epoch milliseconds.
    """

    teacher_id: str
    prompt_hash: str
    judgements: int
    mean_score: float
    prompt_tokens: float
    cached_tokens: float
    completion_tokens: float
    p50_s: float
    p95_s: float
    quotes: int
    unlocated: int
    first_ms: int
    last_ms: int


class GradeMix(msgspec.Struct, frozen=True, kw_only=True):
    """How many judgements of each grade in each bucket of time; `grades` from best to worst by mean score.

    `at_ms` are the starts of the buckets that have judgements, oldest first; `counts` has a list as long as
    `at_ms` for each grade.
    """

    bucket_ms: int
    at_ms: list[int]
    grades: list[str]
    counts: list[list[int]]


class MixChange(msgspec.Struct, frozen=True):
    """Judgements by grade before and since a moment, each with all grades of both."""

    split_ms: int
    before: dict[str, int]
    since: dict[str, int]


class RefusalCount(msgspec.Struct, frozen=True):
    """Pairs whose newest refusal has this reason."""

    reason: str
    pairs: int
    last_ms: int


class ReportFigure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of the newest report on a teacher, prompt and data set; `low` and `high` are its interval."""

    report_id: str
    teacher_id: str
    prompt_hash: str
    data_set: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    why: str
    n_pairs: int
    n_queries: int
    at_ms: int


class Choices(msgspec.Struct, frozen=True):
    """What the list can be filtered by: grades given and subtasks found to mismatch."""

    grades: list[str]
    subtasks: list[str]


class JudgementRow(msgspec.Struct, frozen=True, kw_only=True):
    """A judgement in the list. `id` is a number as text; `title` is the item text's first line."""

    id: str
    at_ms: int
    query: str
    item_id: str
    content_hash: str
    teacher_id: str
    prompt_hash: str
    title: str
    grade: str
    relevance_score: float
    mismatches: list[str]
    unlocated: int


class StoredJudgement(msgspec.Struct, frozen=True, kw_only=True):
    """One judgement as it is stored, long texts cut. `verdicts` is JSON, empty if it is far too long."""

    at_ms: int
    query: str
    item_id: str
    content_hash: str
    teacher_id: str
    prompt_hash: str
    item_text: str
    grade: str
    relevance_score: float
    grades: dict[str, float]
    verdicts: str
    quotes: int
    unlocated: int
    chain_of_thought: str
    latency_ms: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


class PairTraffic(msgspec.Struct, frozen=True):
    """How often a pair was shown and clicked, over all arms; `position` is the mean one, 0 if never said."""

    normalised_query: str
    impressions: int
    clicks: int
    position: float
    last_ms: int


def teacher_figures(client: Client) -> tuple[TeacherFigures | None, list[TeacherFigures]]:
    """Return the figures of all judgements, None without any, and of each teacher and prompt, newest first."""
    rows = fetch(
        client,
        f"""
        SELECT teacher_id, prompt_hash,
            count() AS judgements, avg(relevance_score) AS mean_score, avg(judgements.prompt_tokens) AS prompt_tokens,
            avg(judgements.cached_tokens) AS cached_tokens, avg(judgements.completion_tokens) AS completion_tokens,
            quantile(0.5)(latency_ms) / 1000 AS p50_s, quantile(0.95)(latency_ms) / 1000 AS p95_s,
            sum(judgements.quotes) AS quotes, sum(judgements.unlocated) AS unlocated,
            toUnixTimestamp64Milli(min(event_time)) AS first_ms,
            toUnixTimestamp64Milli(max(event_time)) AS last_ms
        FROM judgements GROUP BY GROUPING SETS ((teacher_id, prompt_hash), ()) HAVING judgements > 0
        ORDER BY grouping(teacher_id) = 0, last_ms DESC LIMIT {MAX_TEACHERS + 1}
        {FINAL}""",  # noqa: S608 - made of constants
    )
    figures = [TeacherFigures(**row) for row in rows]
    return (figures[0], figures[1:]) if figures else (None, [])


def grade_mix(client: Client, *, first_ms: int, last_ms: int) -> GradeMix:
    """Return the grade mix between two times, or over the last `MIX_MS` of them."""
    since_ms = max(first_ms, last_ms - MIX_MS)
    bucket_ms = bucket_width_ms(last_ms - since_ms)
    rows = fetch(
        client,
        f"""
        SELECT intDiv({AT_MS}, {{bucket_ms:Int64}}) * {{bucket_ms:Int64}} AS at_ms,
            grade, count() AS n, sum(relevance_score) AS score
        FROM judgements
        WHERE event_time BETWEEN fromUnixTimestamp64Milli({{since_ms:Int64}})
            AND fromUnixTimestamp64Milli({{last_ms:Int64}})
        GROUP BY at_ms, grade ORDER BY at_ms, grade LIMIT {BARS * 2 * MAX_CHOICES}
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        bucket_ms=bucket_ms,
        since_ms=since_ms,
        last_ms=last_ms,
    )
    totals: dict[str, list[float]] = {}
    for row in rows:
        total = totals.setdefault(row["grade"], [0.0, 0.0])
        total[0] += row["score"]
        total[1] += row["n"]
    grades = sorted(totals, key=lambda grade: (-totals[grade][0] / totals[grade][1], grade))
    buckets = sorted({row["at_ms"] for row in rows})
    counts = [[0] * len(buckets) for _ in grades]
    for row in rows:
        counts[grades.index(row["grade"])][buckets.index(row["at_ms"])] = row["n"]
    return GradeMix(bucket_ms=bucket_ms, at_ms=buckets, grades=grades, counts=counts)


def mix_change(client: Client, figures: TeacherFigures) -> MixChange:
    """Return one teacher's grade mix of its last day and of the month before it.

    Where all its judgements are of less than two days, of the later and the earlier half of their time.
    """
    split_ms = figures.last_ms - min(LATER_MS, (figures.last_ms - figures.first_ms) // 2)
    rows = fetch(
        client,
        f"""
        SELECT grade, countIf({AT_MS} < {{split_ms:Int64}}) AS before, count() - before AS since
        FROM judgements
        WHERE teacher_id = {{teacher_id:String}} AND prompt_hash = {{prompt_hash:String}}
            AND {AT_MS} >= {{since_ms:Int64}}
        GROUP BY grade ORDER BY grade LIMIT {MAX_CHOICES}
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        split_ms=split_ms,
        since_ms=split_ms - MIX_MS,
        teacher_id=figures.teacher_id,
        prompt_hash=figures.prompt_hash,
    )
    return MixChange(
        split_ms, {row["grade"]: row["before"] for row in rows}, {row["grade"]: row["since"] for row in rows}
    )


def refusals(client: Client) -> list[RefusalCount]:
    """Return the refusals by reason, most frequent first."""
    rows = fetch(
        client,
        f"""
        SELECT reason, count() AS pairs,
            toUnixTimestamp64Milli(max(event_time)) AS last_ms
        FROM teacher_refusals GROUP BY reason ORDER BY pairs DESC, reason LIMIT {MAX_REASONS}
        {FINAL}""",  # noqa: S608 - made of constants
    )
    return [RefusalCount(**row) for row in rows]


def newest_reports(client: Client) -> list[ReportFigure]:
    """Return the figures of the newest report on each teacher, prompt and data set, newest report first."""
    rows = fetch(
        client,
        f"""
        SELECT report_id, teacher_id, prompt_hash,
            data_set, metric, value, low, high, why, n_pairs, n_queries,
            {AT_MS} AS at_ms
        FROM teacher_reports
        WHERE (teacher_id, prompt_hash, data_set, report_id) IN (
            SELECT teacher_id, prompt_hash, data_set, argMax(report_id, (event_time, report_id))
            FROM teacher_reports GROUP BY teacher_id, prompt_hash, data_set
        )
        ORDER BY at_ms DESC, data_set, teacher_id, prompt_hash, metric LIMIT {MAX_FIGURES}
        {FINAL}""",  # noqa: S608 - made of constants
    )
    return [ReportFigure(**row) for row in rows]


def choices(client: Client) -> Choices:
    """Return what the list can be filtered by, in the order of the alphabet."""
    (row,) = fetch(
        client,
        f"""
        SELECT groupUniqArray({MAX_CHOICES})(toString(grade)) AS grades,
            groupUniqArrayArray({MAX_CHOICES})(mismatches) AS subtasks
        FROM judgements
        {FINAL}""",  # noqa: S608 - made of constants
    )
    return Choices(sorted(row["grades"]), sorted(row["subtasks"]))


def judgements(
    client: Client,
    *,
    search: str,
    grade: str,
    mismatch: str,
    teacher: str,
    before: tuple[int, int] = NEWEST,
    limit: int,
) -> list[JudgementRow]:
    """Return judgements, newest first. An empty filter lets all through.

    `search` is a part of the query in any case, `mismatch` a subtask that must mismatch. `before` is (at_ms, id)
    of the last judgement of the page before.
    """
    rows = fetch(
        client,
        f"""
        SELECT toString({ID}) AS id, {AT_MS} AS at_ms, query, item_id, content_hash,
            teacher_id, prompt_hash,
            substringUTF8(splitByChar('\\n', item_text, 2)[1], 1, {TITLE_CHARS}) AS title,
            grade, relevance_score, mismatches, unlocated
        FROM judgements
        WHERE ({{search:String}} = '' OR positionCaseInsensitiveUTF8(query, {{search:String}}) > 0)
            AND ({{grade:String}} = '' OR judgements.grade = {{grade:String}})
            AND ({{mismatch:String}} = '' OR has(mismatches, {{mismatch:String}}))
            AND ({{teacher:String}} = '' OR judgements.teacher_id = {{teacher:String}})
            AND ({AT_MS}, {ID}) < ({{at_ms:Int64}}, {{last_id:UInt64}})
        ORDER BY event_time DESC, {ID} DESC LIMIT {{limit:UInt32}}
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        search=search,
        grade=grade,
        mismatch=mismatch,
        teacher=teacher,
        at_ms=before[0],
        last_id=before[1],
        limit=limit,
    )
    return [JudgementRow(**row) for row in rows]


def judgement(
    client: Client, *, query: str, item_id: str, content_hash: str, teacher_id: str, prompt_hash: str
) -> StoredJudgement | None:
    """Return the judgement of this identity, or None if there is none."""
    rows = fetch(
        client,
        f"""
        SELECT {AT_MS} AS at_ms, query, item_id, content_hash, teacher_id,
            prompt_hash,
            substringUTF8(item_text, 1, {MAX_TEXT_CHARS}) AS item_text, grade,
            relevance_score, grades, if(length(verdicts) > {MAX_JSON_BYTES}, '', verdicts) AS verdicts,
            quotes, unlocated, substringUTF8(chain_of_thought, 1, {MAX_TEXT_CHARS}) AS chain_of_thought,
            latency_ms, prompt_tokens, cached_tokens, completion_tokens
        FROM judgements
        WHERE judgements.query = {{query:String}} AND judgements.item_id = {{item_id:String}}
            AND judgements.content_hash = {{content_hash:String}}
            AND judgements.teacher_id = {{teacher_id:String}}
            AND judgements.prompt_hash = {{prompt_hash:String}}
        LIMIT 1
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        query=query,
        item_id=item_id,
        content_hash=content_hash,
        teacher_id=teacher_id,
        prompt_hash=prompt_hash,
    )
    return StoredJudgement(**rows[0]) if rows else None


def pair_traffic(client: Client, *, query: str, item_id: str) -> PairTraffic:
    """Return how often an item was shown and clicked for a query, in any case and spacing."""
    normalised = normalise_query(query)
    (row,) = fetch(
        client,
        f"""
        SELECT countIf(kind = 'impression') AS impressions, uniqExactIf(impression_id, kind = 'click') AS clicks,
            ifNotFinite(avgIf(pair_events.position, kind = 'impression' AND pair_events.position > 0), 0) AS position,
            toUnixTimestamp64Milli(maxIf(event_time, kind = 'impression')) AS last_ms
        FROM pair_events WHERE normalised_query = {{query:String}} AND item_id = {{item_id:String}}
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        query=normalised,
        item_id=item_id,
    )
    return PairTraffic(normalised_query=normalised, **row)
