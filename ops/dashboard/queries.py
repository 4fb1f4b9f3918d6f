"""What the page asks ClickHouse. Every value is a bound parameter; every answer has a limit and a time limit.

Tables are read with FINAL, so a corrected row counts once; only `arrivals` counts rows as they came in.
Clicks and purchases count where they were attributed to an impression, each impression clicked at most once.
"""

from __future__ import annotations

import base64
from typing import Literal

import msgspec
from clickhouse_connect.driver.client import Client

from ops.dashboard.asking import FINAL, TIMED, fetch

MAX_ROWS = 500
BUCKET_S = 10
ARRIVALS_S = 600
PREVIEW_CHARS = 300

#: An empty arm means all traffic, also that from before and outside the experiment.
IN_ARM = "({arm:String} = '' OR arms[{experiment:String}] = {arm:String})"

QuerySort = Literal["impressions", "clicks", "ctr", "purchases", "revenue", "query"]


class Arrivals(msgspec.Struct, frozen=True):
    """Rows per second as they were stored, in buckets of `BUCKET_S` seconds, oldest first.

    `at_ms` are the buckets' starts; `per_s` maps table to as many rates. `delay_p50_s` and `delay_p95_s` are
    from an impression's event time to the store over the last minute; None without impressions in it.
    """

    at_ms: list[int]
    per_s: dict[str, list[float]]
    delay_p50_s: float | None
    delay_p95_s: float | None


class Totals(msgspec.Struct, frozen=True):
    """Events in the store, each once; `interactions` are those of other actions. `last_event_ms` is the newest
    query's or impression's, or 0."""

    queries: int
    impressions: int
    clicks: int
    add_to_carts: int
    purchases: int
    revenue: float
    interactions: int
    dead_letters: int
    last_event_ms: int


class DeadLetterCount(msgspec.Struct, frozen=True):
    """Dead letters of one reason: all, and those stored in the last `ARRIVALS_S` seconds."""

    reason: str
    total: int
    recent: int
    last_ms: int


class DeadLetter(msgspec.Struct, frozen=True):
    """One record that could not be typed; `preview` is the start of its bytes as text."""

    source_topic: str
    source_partition: int
    source_offset: int
    reason: str
    detail: str
    payload_bytes: int
    preview: str
    at_ms: int


class QueryRow(msgspec.Struct, frozen=True):
    """A query's traffic in one arm. `ctr` is clicked impressions over impressions, in [0, 1]."""

    query: str
    traffic_class: str
    impressions: int
    clicks: int
    ctr: float
    purchases: int
    revenue: float


class PairRow(msgspec.Struct, frozen=True):
    """A (query, item) pair's traffic. `coec` is clicks over `expected_clicks`, None where none are expected;
    `score` the mean relevance score that ranked it, `position` the mean position (0: never said)."""

    item_id: str
    impressions: int
    clicks: int
    ctr: float
    expected_clicks: float
    coec: float | None
    position: float
    score: float | None
    purchases: int
    revenue: float


class PairEvent(msgspec.Struct, frozen=True):
    """One event of a pair. `delay_ms` is the time since the impression it is attributed to."""

    at_ms: int
    kind: str
    event_id: str
    client_id: str
    query_id: str
    arm: str
    position: int
    attribution: str
    delay_ms: int | None
    revenue: float | None
    score: float | None
    student_version: str


def arrivals(client: Client, *, now_ms: int) -> Arrivals:
    """Return what was stored in the last ten minutes; a row that replaces another counts as it comes in."""
    end_s = now_ms // 1000 // BUCKET_S * BUCKET_S
    start_s = end_s - ARRIVALS_S
    tables = ("queries", "impressions", "clicks", "conversions", "interactions", "dead_letters")
    counts = " UNION ALL ".join(
        f"""
        SELECT '{table}' AS name, count() AS n,
            intDiv(toUnixTimestamp(ingested_at), {BUCKET_S}) * {BUCKET_S} AS at_s
        FROM {table}
        WHERE ingested_at >= toDateTime64({{start_s:Int64}}, 3)
            AND ingested_at < toDateTime64({{end_s:Int64}}, 3)
        GROUP BY at_s"""  # noqa: S608 - made of constants; values are bound
        for table in tables
    )
    rates = {table: [0.0] * (ARRIVALS_S // BUCKET_S) for table in tables}
    for row in fetch(client, f"SELECT * FROM ({counts}) {TIMED}", start_s=start_s, end_s=end_s):  # noqa: S608 - as above
        rates[row["name"]][(row["at_s"] - start_s) // BUCKET_S] = row["n"] / BUCKET_S
    (delay,) = fetch(
        client,
        f"""
        SELECT quantiles(0.5, 0.95)(dateDiff('millisecond', event_time, ingested_at) / 1000) AS quantiles_s,
            count() AS n
        FROM impressions WHERE ingested_at >= toDateTime64({{since_s:Int64}}, 3) {TIMED}""",  # noqa: S608 - as above
        since_s=now_ms // 1000 - 60,
    )
    p50, p95 = delay["quantiles_s"] if delay["n"] else (None, None)
    return Arrivals(
        at_ms=[1000 * at_s for at_s in range(start_s, end_s, BUCKET_S)],
        per_s=rates,
        delay_p50_s=p50,
        delay_p95_s=p95,
    )


def totals(client: Client) -> Totals:
    """Count every event once."""
    (row,) = fetch(
        client,
        f"""
        SELECT
            (SELECT count() FROM queries) AS queries,
            (SELECT count() FROM impressions) AS impressions,
            (SELECT count() FROM clicks) AS clicks,
            (SELECT countIf(kind = 'add_to_cart') FROM conversions) AS add_to_carts,
            (SELECT countIf(kind = 'purchase') FROM conversions) AS purchases,
            (SELECT sumIf(revenue, kind = 'purchase') FROM conversions) AS revenue,
            (SELECT count() FROM interactions) AS interactions,
            (SELECT count() FROM dead_letters) AS dead_letters,
            greatest(
                (SELECT toUnixTimestamp64Milli(max(event_time)) FROM queries),
                (SELECT toUnixTimestamp64Milli(max(event_time)) FROM impressions)
            ) AS last_event_ms
        {FINAL}""",  # noqa: S608 - made of constants
    )
    return Totals(**row)


def dead_letter_counts(client: Client, *, now_ms: int) -> list[DeadLetterCount]:
    """Return the dead letters by reason, most frequent first."""
    rows = fetch(
        client,
        f"""
        SELECT reason, count() AS total,
            countIf(ingested_at >= fromUnixTimestamp64Milli({{since_ms:Int64}})) AS recent,
            toUnixTimestamp64Milli(max(ingested_at)) AS last_ms
        FROM dead_letters GROUP BY reason ORDER BY total DESC, reason LIMIT 50
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        since_ms=now_ms - 1000 * ARRIVALS_S,
    )
    return [DeadLetterCount(**row) for row in rows]


def dead_letters(client: Client, *, reason: str, limit: int) -> list[DeadLetter]:
    """Return the newest dead letters, of one reason or (empty) of all."""
    rows = fetch(
        client,
        f"""
        SELECT source_topic, source_partition, source_offset, reason, detail, payload_bytes,
            substring(payload_base64, 1, {4 * PREVIEW_CHARS}) AS start,
            toUnixTimestamp64Milli(ingested_at) AS at_ms
        FROM dead_letters WHERE {{reason:String}} = '' OR reason = {{reason:String}}
        ORDER BY ingested_at DESC, source_offset DESC LIMIT {{limit:UInt32}}
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        reason=reason,
        limit=limit,
    )
    return [DeadLetter(preview=_preview(row.pop("start")), **row) for row in rows]


def queries_of_arm(
    client: Client,
    *,
    experiment: str,
    arm: str,
    search: str,
    traffic_class: str,
    sort: QuerySort,
    ascending: bool,
    limit: int,
) -> list[QueryRow]:
    """Return an arm's queries. `search` is a part of the query in any case, `traffic_class` empty for all."""
    wanted = f"""{IN_ARM}
        AND ({{search:String}} = '' OR positionCaseInsensitiveUTF8(normalised_query, {{search:String}}) > 0)
        AND ({{traffic_class:String}} = '' OR traffic_class = {{traffic_class:String}})"""
    rows = fetch(
        client,
        f"""
        SELECT query, class AS traffic_class, impressions, clicks, clicks / impressions AS ctr,
            purchases, revenue
        FROM (
            SELECT normalised_query AS query, count() AS impressions,
                argMax(traffic_class, event_time) AS class
            FROM impressions WHERE {wanted} GROUP BY query
        ) AS shown
        LEFT JOIN (
            SELECT normalised_query AS query, uniqExact(impression_id) AS clicks
            FROM clicks WHERE attribution = 'impression' AND {wanted} GROUP BY query
        ) AS clicked USING query
        LEFT JOIN (
            SELECT normalised_query AS query, count() AS purchases, sum(conversions.revenue) AS revenue
            FROM conversions WHERE attribution = 'impression' AND kind = 'purchase' AND {wanted}
            GROUP BY query
        ) AS bought USING query
        ORDER BY {sort} {"ASC" if ascending else "DESC"}, impressions DESC, query LIMIT {{limit:UInt32}}
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        experiment=experiment,
        arm=arm,
        search=search,
        traffic_class=traffic_class,
        limit=limit,
    )
    return [QueryRow(**row) for row in rows]


def position_prior(client: Client) -> dict[int, float]:
    """Return how often an impression at each position is clicked, over all traffic: the prior of COEC."""
    rows = fetch(
        client,
        f"""
        SELECT position, countIf(event_id IN (
            SELECT impression_id FROM clicks WHERE attribution = 'impression'
        )) / count() AS prior
        FROM impressions GROUP BY position ORDER BY position LIMIT 1000
        {FINAL}""",  # noqa: S608 - made of constants
    )
    return {row["position"]: row["prior"] for row in rows}


def pairs_of_query(
    client: Client, *, experiment: str, arm: str, query: str, prior: dict[int, float], limit: int
) -> list[PairRow]:
    """Return the items shown for a query, most shown first."""
    wanted = f"normalised_query = {{query:String}} AND {IN_ARM}"
    rows = fetch(
        client,
        f"""
        SELECT item_id, impressions, clicks, clicks / impressions AS ctr, expected_clicks,
            if(expected_clicks > 0, clicks / expected_clicks, NULL) AS coec, mean_position AS position,
            mean_score AS score, purchases, revenue
        FROM (
            SELECT item_id, count() AS impressions, avg(score) AS mean_score,
                sum(transform(
                    position, {{positions:Array(UInt16)}}, {{priors:Array(Float64)}}, 0.
                )) AS expected_clicks,
                if(countIf(position > 0) > 0, avgIf(position, position > 0), 0) AS mean_position
            FROM impressions WHERE {wanted} GROUP BY item_id
        ) AS shown
        LEFT JOIN (
            SELECT item_id, uniqExact(impression_id) AS clicks
            FROM clicks WHERE attribution = 'impression' AND {wanted} GROUP BY item_id
        ) AS clicked USING item_id
        LEFT JOIN (
            SELECT item_id, count() AS purchases, sum(conversions.revenue) AS revenue
            FROM conversions WHERE attribution = 'impression' AND kind = 'purchase' AND {wanted}
            GROUP BY item_id
        ) AS bought USING item_id
        ORDER BY impressions DESC, clicks DESC, item_id LIMIT {{limit:UInt32}}
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        experiment=experiment,
        arm=arm,
        query=query,
        positions=list(prior) or [0],
        priors=list(prior.values()) or [0.0],
        limit=limit,
    )
    return [PairRow(**row) for row in rows]


def events_of_pair(
    client: Client, *, experiment: str, arm: str, query: str, item_id: str, limit: int
) -> list[PairEvent]:
    """Return a pair's events, newest first."""
    common = """toUnixTimestamp64Milli(event_time) AS at_ms, toString(event_id) AS event_id, client_id,
                query_id, toString(arms[{experiment:String}]) AS arm_name, position,
                toString(student_version) AS student_version"""
    wanted = f"normalised_query = {{query:String}} AND item_id = {{item_id:String}} AND {IN_ARM}"
    delay = "if(attribution = 'no_impression', NULL, toNullable(delay_ms))"
    rows = fetch(
        client,
        f"""
        SELECT at_ms, kind, event_id, client_id, query_id, arm_name AS arm, position, attribution,
            delay AS delay_ms, money AS revenue, score, student_version
        FROM (
            SELECT {common}, 'impression' AS kind, '' AS attribution,
                CAST(NULL AS Nullable(Int64)) AS delay, CAST(NULL AS Nullable(Float64)) AS money, score
            FROM impressions WHERE {wanted}
            UNION ALL
            SELECT {common}, 'click' AS kind, toString(attribution), {delay} AS delay,
                NULL AS money, NULL AS score
            FROM clicks WHERE {wanted}
            UNION ALL
            SELECT {common}, toString(kind), toString(attribution), {delay} AS delay,
                if(kind = 'purchase', toNullable(revenue), NULL) AS money, NULL AS score
            FROM conversions WHERE {wanted}
        )
        ORDER BY at_ms DESC, event_id LIMIT {{limit:UInt32}}
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        experiment=experiment,
        arm=arm,
        query=query,
        item_id=item_id,
        limit=limit,
    )
    return [PairEvent(**row) for row in rows]


def _preview(start: str) -> str:
    whole = start[: 4 * (len(start) // 4)]
    return base64.b64decode(whole, validate=False).decode("utf-8", "replace")[:PREVIEW_CHARS]
