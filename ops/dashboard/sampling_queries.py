"""What the loop's page asks ClickHouse of sampled pairs: how many of which kind and why, and which ones."""

from __future__ import annotations

from typing import Literal

import msgspec
from clickhouse_connect.driver.client import Client

from ops.dashboard.asking import AT_MS, BARS, FINAL, bucket_width_ms, fetch
from ops.dashboard.teacher_queries import NEWEST, TITLE_CHARS
from streams.records import TrafficClass

MAX_TERMS = 40
#: Pairs over time are drawn over the last day at most.
SHOWN_MS = 24 * 3_600_000
CLASSES = tuple(str(name) for name in TrafficClass)

Lane = Literal["", "priority", "uniform"]
#: judged: there is a judgement of this text since it was sampled; refused: an answer that was none; expired: neither
#: came before the deadline.
PairState = Literal["", "judged", "refused", "waiting", "expired"]

_KEY = "(query, item_id, content_hash)"
ID = f"cityHash64({_KEY}, event_time)"


def _since(table: str) -> str:
    """Return whether the newest answer of a table is not older than the sampling, by a second: clocks differ."""
    return f"{table}.answered_ms + 1000 >= sampled_ms"


_SAMPLED = (
    *("query", "item_id", "traffic_class", "uniform", "priority", "reasons", "tokens"),
    *("deadline_ms", "sampled_ms", "id", "title"),
)
_STATED = f"""
    SELECT {", ".join(f"sampled.{name} AS {name}" for name in _SAMPLED)},
        multiIf({_since("judged")}, 'judged', {_since("refused")}, 'refused',
        deadline_ms < {{now_ms:Int64}}, 'expired', 'waiting') AS state, judged.grade AS grade
    FROM (
        SELECT query, item_id, content_hash, traffic_class, uniform, priority, reasons, tokens,
            toUnixTimestamp64Milli(deadline) AS deadline_ms, {AT_MS} AS sampled_ms, {ID} AS id,
            substringUTF8(splitByChar('\\n', item_text, 2)[1], 1, {TITLE_CHARS}) AS title
        FROM sampled_pairs WHERE {{wanted}}
    ) AS sampled
    LEFT JOIN (
        SELECT query, item_id, content_hash, toUnixTimestamp64Milli(max(event_time)) AS answered_ms,
            toString(argMax(judgements.grade, event_time)) AS grade
        FROM judgements GROUP BY query, item_id, content_hash
    ) AS judged USING {_KEY}
    LEFT JOIN (
        SELECT query, item_id, content_hash, toUnixTimestamp64Milli(max(event_time)) AS answered_ms
        FROM teacher_refusals GROUP BY query, item_id, content_hash
    ) AS refused USING {_KEY}"""  # noqa: S608 - made of constants


class SampledGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Sampled pairs of one class of traffic and lane of the budget, by what became of them; `tokens` expected."""

    traffic_class: str
    uniform: bool
    pairs: int
    judged: int
    refused: int
    waiting: int
    expired: int
    tokens: float


class TermFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One term of the priority over the pairs of a lane: its quartiles."""

    term: str
    uniform: bool
    pairs: int
    low: float
    middle: float
    high: float


class SampledOverTime(msgspec.Struct, frozen=True):
    """How many pairs of each class were sampled in each bucket of time that has some; a list for each class."""

    bucket_ms: int
    at_ms: list[int]
    counts: dict[str, list[int]]


class SampledRow(msgspec.Struct, frozen=True, kw_only=True):
    """A sampled pair in the list. `id` is a number as text, `grade` the judgement's, empty if there is none."""

    id: str
    at_ms: int
    query: str
    item_id: str
    title: str
    traffic_class: str
    uniform: bool
    priority: float
    reasons: dict[str, float]
    tokens: float
    deadline_ms: int
    state: str
    grade: str


def groups(client: Client, *, now_ms: int) -> list[SampledGroup]:
    """Count all sampled pairs by class and lane."""
    found = fetch(
        client,
        f"""
        SELECT traffic_class, uniform, count() AS pairs, countIf(state = 'judged') AS judged,
            countIf(state = 'refused') AS refused, countIf(state = 'waiting') AS waiting,
            countIf(state = 'expired') AS expired, sum(stated.tokens) AS tokens
        FROM ({_STATED.replace("{wanted}", "1")}) AS stated
        GROUP BY traffic_class, uniform ORDER BY uniform, pairs DESC, traffic_class LIMIT 50
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        now_ms=now_ms,
    )
    return [SampledGroup(**row) for row in found]


def terms(client: Client, *, now_ms: int) -> list[TermFigures]:
    """Return the quartiles of each term over the pairs of the last day, by lane."""
    found = fetch(
        client,
        f"""
        SELECT toString(each.1) AS term, uniform, count() AS pairs, quantiles(0.25, 0.5, 0.75)(each.2) AS quartiles
        FROM sampled_pairs ARRAY JOIN CAST(reasons, 'Array(Tuple(String, Float64))') AS each
        WHERE each.1 != 'uniform' AND {AT_MS} > {{since_ms:Int64}}
        GROUP BY term, uniform ORDER BY uniform, term LIMIT {MAX_TERMS}
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        since_ms=now_ms - SHOWN_MS,
    )
    return [
        TermFigures(
            term=row["term"],
            uniform=row["uniform"],
            pairs=row["pairs"],
            low=row["quartiles"][0],
            middle=row["quartiles"][1],
            high=row["quartiles"][2],
        )
        for row in found
    ]


def over_time(client: Client, *, now_ms: int) -> SampledOverTime:
    """Return how many pairs were sampled over the last day, or over as much of it as has any."""
    since_ms = now_ms - SHOWN_MS
    (first,) = fetch(
        client,
        f"""SELECT toUnixTimestamp64Milli(min(event_time)) AS at_ms, count() AS n FROM sampled_pairs
        WHERE {AT_MS} > {{since_ms:Int64}} {FINAL}""",  # noqa: S608 - made of constants; values are bound
        since_ms=since_ms,
    )
    bucket_ms = bucket_width_ms(max(0, now_ms - first["at_ms"]) if first["n"] else 0)
    found = fetch(
        client,
        f"""
        SELECT intDiv({AT_MS}, {{bucket_ms:Int64}}) * {{bucket_ms:Int64}} AS at_ms, traffic_class, count() AS n
        FROM sampled_pairs WHERE {AT_MS} > {{since_ms:Int64}}
        GROUP BY at_ms, traffic_class ORDER BY at_ms LIMIT {BARS * 40}
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        bucket_ms=bucket_ms,
        since_ms=since_ms,
    )
    at_ms = sorted({row["at_ms"] for row in found})
    counts: dict[str, list[int]] = {}
    for row in found:
        name = row["traffic_class"] if row["traffic_class"] in CLASSES else TrafficClass.UNKNOWN.value
        counts.setdefault(name, [0] * len(at_ms))[at_ms.index(row["at_ms"])] += row["n"]
    return SampledOverTime(bucket_ms, at_ms, {name: counts[name] for name in CLASSES if name in counts})


def sampled(
    client: Client,
    *,
    now_ms: int,
    search: str,
    traffic_class: str,
    lane: Lane,
    state: PairState,
    before: tuple[int, int] = NEWEST,
    limit: int,
) -> list[SampledRow]:
    """Return sampled pairs, newest first. An empty filter lets all through.

    `search` is a part of the query in any case. `before` is (at_ms, id) of the last pair of the page before.
    """
    wanted = f"""({{search:String}} = '' OR positionCaseInsensitiveUTF8(query, {{search:String}}) > 0)
            AND ({{traffic_class:String}} = '' OR sampled_pairs.traffic_class = {{traffic_class:String}})
            AND ({{lane:String}} = '' OR uniform = ({{lane:String}} = 'uniform'))
            AND ({AT_MS}, {ID}) < ({{at_ms:Int64}}, {{last_id:UInt64}})"""
    found = fetch(
        client,
        f"""
        SELECT toString(stated.id) AS id, sampled_ms AS at_ms, query, item_id, title,
            toString(traffic_class) AS traffic_class, uniform, priority, reasons, tokens, deadline_ms, state, grade
        FROM ({_STATED.replace("{wanted}", wanted)}) AS stated
        WHERE {{state:String}} = '' OR state = {{state:String}}
        ORDER BY sampled_ms DESC, stated.id DESC LIMIT {{limit:UInt32}}
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        now_ms=now_ms,
        search=search,
        traffic_class=traffic_class,
        lane=lane,
        state=state,
        at_ms=before[0],
        last_id=before[1],
        limit=limit,
    )
    return [SampledRow(**row) for row in found]
