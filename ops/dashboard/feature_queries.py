"""What the page and the audit ask ClickHouse of the feature store's reads. Every value is bound, every answer has a
limit and a time limit."""

from __future__ import annotations

import msgspec
from clickhouse_connect.driver.client import Client

from ops.dashboard.asking import FINAL, fetch

MAX_SEARCHES = 500
#: Rows: each audit has one a view.
MAX_AUDITS = 70
MAX_EXAMPLES_BYTES = 100_000
#: The page sums up the reads of so long; bars of a minute.
LATELY_MS = 3_600_000
BAR_MS = 60_000

READ_COLUMNS = (
    "served_us",
    "item_ids",
    "read_us",
    "answered_us",
    "as_of_us",
    "impressions",
    "clicks",
    "purchases",
    "expected_clicks",
    "coec",
)
_IN_TIME = (
    "event_time BETWEEN fromUnixTimestamp64Milli({first_ms:Int64})"
    " AND fromUnixTimestamp64Milli({last_ms:Int64})"
)


class ReadSearch(msgspec.Struct, frozen=True, kw_only=True):
    """What was read for one search, as `streams.records.EngagementReads` has it. `place` orders a random sample."""

    place: int
    event_id: str
    normalised_query: str
    served_us: int
    item_ids: list[str]
    read_us: list[int | None]
    answered_us: list[int | None]
    as_of_us: list[int | None]
    impressions: list[int | None]
    clicks: list[int | None]
    purchases: list[int | None]
    expected_clicks: list[float | None]
    coec: list[float | None]


class ReadsLately(msgspec.Struct, frozen=True, kw_only=True):
    """The reads of the last hour: pairs shown, those the store did not answer for (`unanswered`), those that had
    engagement (`known`), how old answers were when they were served. Ages are None without answers."""

    searches: int
    reads: int
    unanswered: int
    known: int
    age_p50_ms: float | None
    age_p99_ms: float | None
    #: [epoch milliseconds, reads, unanswered] for each minute.
    minutes: list[tuple[int, int, int]]


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One view's result of an audit; results of one audit have one `at_ms`. `examples` is JSON as it was stored."""

    audit_id: str
    view: str
    at_ms: int
    share: float
    seed: int
    first_ms: int
    last_ms: int
    searches: int
    reads: int
    equal: int
    different: int
    not_comparable: dict[str, int]
    examples: str


def count_searches(client: Client, *, first_ms: int, last_ms: int) -> int:
    """Return how many searches with logged reads there are between two times."""
    found = fetch(
        client,
        f"SELECT count() AS n FROM feature_reads WHERE {_IN_TIME} {FINAL}",  # noqa: S608 - made of constants
        first_ms=first_ms,
        last_ms=last_ms,
    )
    return int(found[0]["n"])


def read_searches(
    client: Client, *, first_ms: int, last_ms: int, seed: int, after: int, limit: int
) -> list[ReadSearch]:
    """Return the next `limit` of the searches between two times in an order that `seed` draws; `after` is the place
    of the last one that is known, 0 at first."""
    columns = ", ".join(READ_COLUMNS)
    rows = fetch(
        client,
        f"""
        SELECT cityHash64({{seed:UInt64}}, event_id) AS place, toString(feature_reads.event_id) AS event_id,
            normalised_query, {columns}
        FROM feature_reads WHERE {_IN_TIME} AND place > {{after:UInt64}}
        ORDER BY place LIMIT {{limit:UInt32}}
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        first_ms=first_ms,
        last_ms=last_ms,
        seed=seed,
        after=after,
        limit=min(limit, MAX_SEARCHES),
    )
    return [ReadSearch(**row) for row in rows]


def reads_lately(client: Client, *, now_ms: int) -> ReadsLately:
    """Sum up the last hour's reads."""
    bounds = {"first_ms": now_ms - LATELY_MS, "last_ms": now_ms + LATELY_MS}
    (total,) = fetch(
        client,
        f"""
        SELECT count() AS searches, sum(length(item_ids)) AS reads, sum(countEqual(read_us, NULL)) AS unanswered,
            sum(length(as_of_us) - countEqual(as_of_us, NULL)) AS known,
            quantilesArray(0.5, 0.99)(
                arrayMap(at -> (served_us - at) / 1000, arrayFilter(at -> at IS NOT NULL, read_us))
            ) AS ages
        FROM feature_reads WHERE {_IN_TIME}
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        **bounds,
    )
    minutes = fetch(
        client,
        f"""
        SELECT intDiv(toUnixTimestamp64Milli(event_time), {BAR_MS}) * {BAR_MS} AS at_ms,
            sum(length(item_ids)) AS reads, sum(countEqual(read_us, NULL)) AS unanswered
        FROM feature_reads WHERE {_IN_TIME} GROUP BY at_ms ORDER BY at_ms LIMIT 200
        {FINAL}""",  # noqa: S608 - made of constants; values are bound
        **bounds,
    )
    answered = total["reads"] > total["unanswered"]
    ages = total.pop("ages") if answered else (total.pop("ages"), (None, None))[1]
    return ReadsLately(
        **total,
        age_p50_ms=ages[0],
        age_p99_ms=ages[1],
        minutes=[(row["at_ms"], row["reads"], row["unanswered"]) for row in minutes],
    )


def audits(client: Client) -> list[AuditRow]:
    """Return the newest audits, newest first."""
    rows = fetch(
        client,
        f"""
        SELECT toString(feature_audits.audit_id) AS audit_id, view, toUnixTimestamp64Milli(event_time) AS at_ms,
            share, seed, intDiv(first_us, 1000) AS first_ms, intDiv(last_us, 1000) AS last_ms,
            searches, reads, equal, different, not_comparable,
            substring(feature_audits.examples, 1, {MAX_EXAMPLES_BYTES}) AS examples
        FROM feature_audits ORDER BY event_time DESC LIMIT {MAX_AUDITS}
        {FINAL}""",  # noqa: S608 - made of constants
    )
    return [AuditRow(**row) for row in rows]
