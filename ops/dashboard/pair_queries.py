"""What the page of a pair asks ClickHouse. A pair is a query, in any case, and an item.

Words are looked for in what was judged and sampled and in `seen_queries`; `pair_events` is ordered by query and item,
so that a pair is found at once. Impressions are never gone through.
"""

from __future__ import annotations

import msgspec
from clickhouse_connect.driver.client import Client

from ops.dashboard.asking import AT_MS, BARS, FINAL, TIMED, bucket_width_ms, fetch
from ops.dashboard.teacher_queries import MAX_TEXT_CHARS, TITLE_CHARS
from streams.item_text import query_text
from streams.normalise import normalise_query

MAX_WORDS = 8
MAX_JUDGEMENTS = 20
MAX_SAMPLED = 20
MAX_VERSIONS = 50
MAX_LESSONS = 50
#: Of the queries with the words, those seen last have their items listed.
MAX_QUERIES = 50
_TITLE = f"substringUTF8(splitByChar('\\n', item_text, 2)[1], 1, {TITLE_CHARS})"


class PairFound(msgspec.Struct, frozen=True, kw_only=True):
    """A pair in the list. `title` and `grade` are empty where nobody sampled or judged it; impressions and clicks are
    all that it ever got; `last_ms` is when it was last judged, sampled or, if it never was, shown."""

    query: str
    item_id: str
    title: str
    grade: str
    relevance_score: float | None
    judged: bool
    sampled: bool
    impressions: int
    clicks: int
    last_ms: int


class PairJudgement(msgspec.Struct, frozen=True, kw_only=True):
    """A judgement of a pair, by its identity; `name` is what updates call it."""

    query: str
    item_id: str
    content_hash: str
    teacher_id: str
    prompt_hash: str
    name: str
    grade: str
    relevance_score: float
    at_ms: int


class PairSampled(msgspec.Struct, frozen=True, kw_only=True):
    """Once that a pair was sampled, and why."""

    at_ms: int
    deadline_ms: int
    traffic_class: str
    uniform: bool
    priority: float
    reasons: dict[str, float]


class VersionScore(msgspec.Struct, frozen=True, kw_only=True):
    """What one version, or a cascade `a+b` of two, scored a pair with: mean, lowest and highest over its impressions,
    None where none had a score."""

    student_version: str
    impressions: int
    clicks: int
    position: float
    score: float | None
    low: float | None
    high: float | None
    first_ms: int
    last_ms: int


class PairOverTime(msgspec.Struct, frozen=True):
    """Impressions and clicks of a pair in each bucket of time that has some: (start, impressions, clicks)."""

    bucket_ms: int
    buckets: list[tuple[int, int, int]]


class Lesson(msgspec.Struct, frozen=True, kw_only=True):
    """An update that took a judgement of a pair in; `held_back` for the gate instead of learning it."""

    name: str
    kind: str
    update_id: int
    outcome: str
    student_version: str
    held_back: bool
    at_ms: int


def forms(query: str) -> list[str]:
    """Return the forms in which a query stands in the tables.

    >>> forms("Red  Mug")
    ['Red  Mug', 'Red Mug', 'red mug']
    """
    return sorted({query, query_text(query), normalise_query(query)})


def search(client: Client, *, words: str, limit: int) -> list[PairFound]:
    """Return pairs with each of the words, in any case: judged ones first, then sampled ones, which may have them in
    query, item id or title, then those shown most, which have them in the query. Without words the newest that were
    judged or sampled."""
    given = normalise_query(words).split(" ")[:MAX_WORDS] if words.strip() else []
    bound = {f"word{number}": word for number, word in enumerate(given)}

    def has_words(text: str, position: str = "positionCaseInsensitiveUTF8") -> str:
        has = [f"{position}({text}, {{{name}:String}}) > 0" for name in bound]
        return " AND ".join(has) or "1"

    told = has_words(f"concat(query, ' ', item_id, ' ', {_TITLE})")
    sources = [
        f"""
        SELECT lowerUTF8(judgements.query) AS query, item_id, argMax({_TITLE}, event_time) AS title,
            toString(argMax(judgements.grade, event_time)) AS grade,
            toNullable(argMax(judgements.relevance_score, event_time)) AS score,
            toUnixTimestamp64Milli(max(event_time)) AS judged_ms, 0 AS sampled_ms, 0 AS shown_ms
        FROM judgements WHERE {told} GROUP BY query, item_id ORDER BY judged_ms DESC LIMIT {{limit:UInt32}}""",  # noqa: S608 - values are bound
        f"""
        SELECT lowerUTF8(sampled_pairs.query) AS query, item_id, argMax({_TITLE}, event_time) AS title, '' AS grade,
            NULL AS score, 0 AS judged_ms, toUnixTimestamp64Milli(max(event_time)) AS sampled_ms, 0 AS shown_ms
        FROM sampled_pairs WHERE {told} GROUP BY query, item_id ORDER BY sampled_ms DESC LIMIT {{limit:UInt32}}""",  # noqa: S608 - as above
    ]
    if given:
        sources.append(
            f"""
        SELECT normalised_query AS query, item_id, '' AS title, '' AS grade, NULL AS score, 0 AS judged_ms,
            0 AS sampled_ms, toUnixTimestamp64Milli(max(event_time)) AS shown_ms
        FROM pair_events WHERE normalised_query IN (
            SELECT normalised_query FROM seen_queries WHERE {has_words("normalised_query", "position")}
            ORDER BY last_seen DESC LIMIT {MAX_QUERIES}
        )
        GROUP BY query, item_id ORDER BY count() DESC LIMIT {{limit:UInt32}}"""  # noqa: S608 - as above
        )
    # Newest and greatest are the same with and without the rows that others replace, so FINAL is not paid for.
    found = fetch(
        client,
        f"""
        SELECT query, item_id, max(title) AS title, max(grade) AS grade, max(score) AS relevance_score,
            max(judged_ms) > 0 AS judged, max(sampled_ms) > 0 AS sampled,
            greatest(max(judged_ms), max(sampled_ms), max(shown_ms)) AS last_ms
        FROM ({" UNION ALL ".join(f"SELECT * FROM ({source})" for source in sources)})
        GROUP BY query, item_id ORDER BY judged DESC, sampled DESC, last_ms DESC, query, item_id
        LIMIT {{limit:UInt32}}
        {TIMED}""",  # noqa: S608 - made of constants; values are bound
        limit=limit,
        **bound,
    )
    counts = _counts(client, [(row["query"], row["item_id"]) for row in found])
    return [
        PairFound(
            query=row["query"],
            item_id=row["item_id"],
            title=row["title"],
            grade=row["grade"],
            relevance_score=row["relevance_score"],
            judged=bool(row["judged"]),
            sampled=bool(row["sampled"]),
            impressions=counts.get((row["query"], row["item_id"]), (0, 0))[0],
            clicks=counts.get((row["query"], row["item_id"]), (0, 0))[1],
            last_ms=row["last_ms"],
        )
        for row in found
    ]


def _counts(client: Client, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, int]]:
    if not pairs:
        return {}
    found = fetch(
        client,
        f"""
        SELECT normalised_query AS query, item_id, uniqExactIf(event_id, kind = 'impression') AS impressions,
            uniqExactIf(impression_id, kind = 'click') AS clicks
        FROM pair_events
        WHERE (normalised_query, item_id) IN arrayZip({{queries:Array(String)}}, {{items:Array(String)}})
        GROUP BY query, item_id
        {TIMED}""",  # noqa: S608 - made of constants; values are bound
        queries=[query for query, _ in pairs],
        items=[item for _, item in pairs],
    )
    return {(row["query"], row["item_id"]): (row["impressions"], row["clicks"]) for row in found}


def judgements_of(client: Client, *, query: str, item_id: str) -> list[PairJudgement]:
    """Return a pair's judgements, newest first."""
    found = fetch(
        client,
        f"""
        SELECT query, item_id, content_hash, teacher_id, prompt_hash, identity AS name, grade, relevance_score,
            {AT_MS} AS at_ms
        FROM judgements
        WHERE judgements.item_id = {{item_id:String}}
            AND (query IN {{forms:Array(String)}} OR lowerUTF8(query) IN {{forms:Array(String)}})
        ORDER BY event_time DESC, teacher_id, prompt_hash LIMIT {MAX_JUDGEMENTS}
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        item_id=item_id,
        forms=forms(query),
    )
    return [PairJudgement(**row) for row in found]


def sampled_of(client: Client, *, query: str, item_id: str) -> list[PairSampled]:
    """Return when a pair was sampled, newest first."""
    found = fetch(
        client,
        f"""
        SELECT {AT_MS} AS at_ms, toUnixTimestamp64Milli(deadline) AS deadline_ms, traffic_class, uniform, priority,
            reasons
        FROM sampled_pairs WHERE query IN {{forms:Array(String)}} AND item_id = {{item_id:String}}
        ORDER BY event_time DESC LIMIT {MAX_SAMPLED}
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        item_id=item_id,
        forms=forms(query),
    )
    return [PairSampled(**row) for row in found]


def item_text_of(client: Client, *, item_id: str, content_hash: str = "") -> str:
    """Return the newest text that an item was judged or sampled with, of a content if one is named, empty if it never
    was."""
    wanted = """item_id = {item_id:String}
                AND ({content_hash:String} = '' OR content_hash = {content_hash:String})"""
    found = fetch(
        client,
        f"""
        SELECT substringUTF8(argMax(text, at_ms), 1, {MAX_TEXT_CHARS}) AS text FROM (
            SELECT item_text AS text, {AT_MS} AS at_ms FROM judgements WHERE {wanted}
            UNION ALL
            SELECT item_text AS text, {AT_MS} AS at_ms FROM sampled_pairs WHERE {wanted}
        )
        {TIMED}""",  # noqa: S608 - made of constants; values are bound
        item_id=item_id,
        content_hash=content_hash,
    )
    return str(found[0]["text"]) if found else ""


def scores_of(client: Client, *, query: str, item_id: str) -> list[VersionScore]:
    """Return what a pair was scored with by each version, the one that scored it last first."""
    found = fetch(
        client,
        f"""
        SELECT student_version, countIf(kind = 'impression') AS impressions,
            uniqExactIf(impression_id, kind = 'click') AS clicks,
            ifNotFinite(avgIf(pair_events.position, kind = 'impression' AND pair_events.position > 0), 0) AS position,
            avg(pair_events.score) AS score, min(pair_events.score) AS low, max(pair_events.score) AS high,
            toUnixTimestamp64Milli(min(event_time)) AS first_ms, toUnixTimestamp64Milli(max(event_time)) AS last_ms
        FROM pair_events WHERE normalised_query = {{query:String}} AND item_id = {{item_id:String}}
        GROUP BY student_version ORDER BY last_ms DESC, student_version LIMIT {MAX_VERSIONS}
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        query=normalise_query(query),
        item_id=item_id,
    )
    return [VersionScore(**row) for row in found]


def over_time(client: Client, *, query: str, item_id: str, first_ms: int, last_ms: int) -> PairOverTime:
    """Return a pair's impressions and clicks between two times, in about `BARS` buckets or in days."""
    bucket_ms = bucket_width_ms(last_ms - first_ms)
    found = fetch(
        client,
        f"""
        SELECT intDiv({AT_MS}, {{bucket_ms:Int64}}) * {{bucket_ms:Int64}} AS at_ms,
            countIf(kind = 'impression') AS impressions, uniqExactIf(impression_id, kind = 'click') AS clicks
        FROM pair_events WHERE normalised_query = {{query:String}} AND item_id = {{item_id:String}}
        GROUP BY at_ms ORDER BY at_ms DESC LIMIT {10 * BARS}
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        query=normalise_query(query),
        item_id=item_id,
        bucket_ms=bucket_ms,
    )
    return PairOverTime(
        bucket_ms, [(row["at_ms"], row["impressions"], row["clicks"]) for row in reversed(found)]
    )


def lessons_of(client: Client, *, names: list[str]) -> list[Lesson]:
    """Return the updates that took judgements in, newest first; `names` are what updates call the judgements."""
    wanted = [name for name in names if name]
    if not wanted:
        return []
    found = fetch(
        client,
        f"""
        SELECT name, kind, update_id, outcome, student_version, has(back, name) AS held_back, {AT_MS} AS at_ms
        FROM (
            SELECT kind, update_id, outcome, student_version, event_time, student_updates.held_back AS back,
                arrayJoin(arrayIntersect(arrayConcat(used, back), {{names:Array(String)}})) AS name
            FROM student_updates WHERE hasAny(used, {{names:Array(String)}}) OR hasAny(back, {{names:Array(String)}})
        )
        ORDER BY event_time DESC, update_id DESC LIMIT {MAX_LESSONS}
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        names=wanted,
    )
    return [Lesson(**row | {"held_back": bool(row["held_back"])}) for row in found]
