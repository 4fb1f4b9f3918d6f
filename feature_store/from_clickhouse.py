"""What the feature store learns from the events in ClickHouse: query statistics and shoppers' history.

For whoever holds a client: with the embedded ClickHouse that is one process only. Every answer can be asked for what
rows that came in since some moment may have changed, and in slices of the keys, so that it stays small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from clickhouse_connect.driver.client import Client

from streams.records import QueryStatistics, ShopperHistory

MAX_EXECUTION_S = 60
_SETTINGS = f"SETTINGS final = 1, join_use_nulls = 0, max_execution_time = {MAX_EXECUTION_S}"
_CAME = "ingested_at >= fromUnixTimestamp64Milli({changed_ms:Int64})"
_SINCE = "event_time >= fromUnixTimestamp64Milli({since_ms:Int64}) AND normalised_query != ''"
#: Judged queries stand as they were typed.
_CHANGED_QUERIES = f"""(
    SELECT normalised_query FROM queries WHERE {_SINCE} AND {_CAME}
    UNION DISTINCT SELECT normalised_query FROM impressions WHERE {_SINCE} AND {_CAME}
    UNION DISTINCT SELECT lowerUTF8(query) FROM judgements WHERE {_CAME}
)"""  # noqa: S608 - made of constants; values are bound
_QUERIES = (
    f"{_SINCE} AND normalised_query IN {_CHANGED_QUERIES}"
    " AND cityHash64(normalised_query) % {slices:UInt64} = {slice:UInt64}"
)
_BEFORE = (
    "client_id != '' AND arms[{experiment:String}] = '' "
    "AND event_time < fromUnixTimestamp64Milli({until_ms:Int64})"
)
_CHANGED_SHOPPERS = f"""(
    SELECT client_id FROM impressions WHERE {_BEFORE} AND {_CAME}
    UNION DISTINCT SELECT client_id FROM clicks WHERE {_BEFORE} AND {_CAME}
    UNION DISTINCT SELECT client_id FROM conversions WHERE {_BEFORE} AND {_CAME}
)"""  # noqa: S608 - made of constants; values are bound
_SHOPPERS = (
    f"{_BEFORE} AND client_id IN {_CHANGED_SHOPPERS}"
    " AND cityHash64(client_id) % {slices:UInt64} = {slice:UInt64}"
)


@dataclass(frozen=True, slots=True)
class Slice:
    """Which keys are asked for: those that rows stored at `changed_ms` (epoch milliseconds, ClickHouse's clock) or
    later may have changed, and of these the slice `number` of `count`."""

    changed_ms: int = 0
    number: int = 0
    count: int = 1

    def values(self) -> dict[str, Any]:
        """Return what is bound."""
        return {"changed_ms": self.changed_ms, "slice": self.number, "slices": self.count}


EVERYTHING = Slice()


def now_ms(client: Client) -> int:
    """Return ClickHouse's time, by which rows say when they came in, in epoch milliseconds."""
    return int(_rows(client, "SELECT toUnixTimestamp64Milli(now64(3))", {})[0][0])


def windows_since_ms(*, now_ms: int, window_s: float) -> int:
    """Return when the frequency window before the present one began: statistics are of these two.

    >>> windows_since_ms(now_ms=25_000, window_s=10)
    10000
    """
    window_ms = int(window_s * 1000)
    return (now_ms // window_ms - 1) * window_ms


def changed_queries(client: Client, *, since_ms: int, changed_ms: int) -> int:
    """Return how many queries searched from `since_ms` on may have other statistics."""
    values = {"since_ms": since_ms} | Slice(changed_ms).values()
    return int(
        _rows(
            client,
            f"SELECT uniqExact(normalised_query) FROM queries WHERE {_QUERIES} {_SETTINGS}",  # noqa: S608
            values,
        )[0][0]
    )


def query_statistics(
    client: Client, *, since_ms: int, clock_ms: Callable[[], int], of: Slice = EVERYTHING
) -> list[QueryStatistics]:
    """Return a statement about each query searched from `since_ms` on.

    Teacher coverage is the share of the query's shown items that have a judgement under it, in whatever case the
    judged query was typed; 0 if nothing was shown.
    """
    found = _rows(
        client,
        f"""
        SELECT q.normalised_query, q.frequency, q.traffic_class, shown.judged / greatest(shown.items, 1)
        FROM (
            SELECT normalised_query, count() AS frequency, argMax(traffic_class, event_time) AS traffic_class
            FROM queries WHERE {_QUERIES} GROUP BY normalised_query
        ) AS q
        LEFT JOIN (
            SELECT normalised_query, count() AS items,
                countIf((normalised_query, item_id) IN (SELECT lowerUTF8(query), item_id FROM judgements)) AS judged
            FROM (SELECT DISTINCT normalised_query, item_id FROM impressions WHERE {_QUERIES})
            GROUP BY normalised_query
        ) AS shown ON shown.normalised_query = q.normalised_query
        {_SETTINGS}""",  # noqa: S608 - made of constants; values are bound
        {"since_ms": since_ms} | of.values(),
    )
    # After the answer: nothing in it was known later.
    known_ms = clock_ms()
    return [
        QueryStatistics(
            query=query,
            frequency=frequency,
            traffic_class=traffic_class,
            teacher_coverage=coverage,
            known_ms=known_ms,
        )
        for query, frequency, traffic_class, coverage in found
    ]


def changed_shoppers(client: Client, *, experiment: str, until_ms: int, changed_ms: int) -> int:
    """Return how many shoppers may have another history."""
    values = {"experiment": experiment, "until_ms": until_ms} | Slice(changed_ms).values()
    return int(
        _rows(
            client,
            f"SELECT uniqExact(client_id) FROM {_CHANGED_SHOPPERS} {_SETTINGS}",  # noqa: S608
            values,
        )[0][0]
    )


def shopper_history(
    client: Client, *, experiment: str, until_ms: int, clock_ms: Callable[[], int], of: Slice = EVERYTHING
) -> list[ShopperHistory]:
    """Return a statement about each shopper with history: what happened outside an experiment and before `until_ms`,
    as the report's covariates count it (`ops.experiments.aggregates`)."""
    found = _rows(
        client,
        f"""
        SELECT client_id, sum(shown), sum(clicked), sum(bought) FROM (
            SELECT client_id, count() AS shown, 0 AS clicked, 0 AS bought
            FROM impressions WHERE {_SHOPPERS} GROUP BY client_id
            UNION ALL
            SELECT client_id, 0, uniqExact(impression_id), 0
            FROM clicks WHERE {_SHOPPERS} AND attribution = 'impression' GROUP BY client_id
            UNION ALL
            SELECT client_id, 0, 0, count()
            FROM conversions WHERE {_SHOPPERS} AND attribution = 'impression' AND kind = 'purchase'
            GROUP BY client_id
        ) GROUP BY client_id
        {_SETTINGS}""",  # noqa: S608 - made of constants; values are bound
        {"experiment": experiment, "until_ms": until_ms} | of.values(),
    )
    known_ms = clock_ms()
    return [
        ShopperHistory(
            client_id=client_id, impressions=shown, clicks=clicked, conversions=bought, known_ms=known_ms
        )
        for client_id, shown, clicked, bought in found
    ]


def _rows(client: Client, statement: str, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
    return client.query(statement, parameters=values).result_rows
