"""What the feature store learns from the events in ClickHouse: query statistics and shoppers' history.

For whoever holds a client: with the embedded ClickHouse that is one process only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clickhouse_connect.driver.client import Client

from feature_store.rows import FeatureRow

MAX_EXECUTION_S = 60
_SETTINGS = f"SETTINGS final = 1, join_use_nulls = 0, max_execution_time = {MAX_EXECUTION_S}"
_SINCE = "event_time >= fromUnixTimestamp64Milli({since_ms:Int64}) AND normalised_query != ''"
_BEFORE = (
    "client_id != '' AND arms[{experiment:String}] = '' "
    "AND event_time < fromUnixTimestamp64Milli({start_ms:Int64})"
)


def query_statistics(client: Client, *, since_ms: int, now_ms: int) -> list[FeatureRow]:
    """Return a row of `query_statistics` for each query searched from `since_ms` on, as of `now_ms`.

    Teacher coverage is the share of the query's shown items that have a judgement under it, in whatever case the
    judged query was typed; 0 if nothing was shown.
    """
    found = _rows(
        client,
        f"""
        SELECT q.normalised_query, q.frequency, q.traffic_class, shown.judged / greatest(shown.items, 1)
        FROM (
            SELECT normalised_query, count() AS frequency, argMax(traffic_class, event_time) AS traffic_class
            FROM queries WHERE {_SINCE} GROUP BY normalised_query
        ) AS q
        LEFT JOIN (
            SELECT normalised_query, count() AS items,
                countIf((normalised_query, item_id) IN (SELECT lowerUTF8(query), item_id FROM judgements)) AS judged
            FROM (SELECT DISTINCT normalised_query, item_id FROM impressions WHERE {_SINCE})
            GROUP BY normalised_query
        ) AS shown ON shown.normalised_query = q.normalised_query
        {_SETTINGS}""",  # noqa: S608 - made of constants; values are bound
        {"since_ms": since_ms},
    )
    return [
        FeatureRow(
            key=(query,),
            values={"frequency": frequency, "traffic_class": traffic_class, "teacher_coverage": coverage},
            event_us=now_ms * 1000,
        )
        for query, frequency, traffic_class, coverage in found
    ]


def shopper_segments(client: Client, *, experiment: str, start_ms: int) -> list[FeatureRow]:
    """Return a row of `shopper_segment` for each shopper with history before an experiment's start: what happened
    outside it and before, as the report's covariates count it (`ops.experiments.aggregates`)."""
    found = _rows(
        client,
        f"""
        SELECT client_id, sum(shown), sum(clicked), sum(bought) FROM (
            SELECT client_id, count() AS shown, 0 AS clicked, 0 AS bought
            FROM impressions WHERE {_BEFORE} GROUP BY client_id
            UNION ALL
            SELECT client_id, 0, uniqExact(impression_id), 0
            FROM clicks WHERE {_BEFORE} AND attribution = 'impression' GROUP BY client_id
            UNION ALL
            SELECT client_id, 0, 0, count()
            FROM conversions WHERE {_BEFORE} AND attribution = 'impression' AND kind = 'purchase'
            GROUP BY client_id
        ) GROUP BY client_id
        {_SETTINGS}""",  # noqa: S608 - made of constants; values are bound
        {"experiment": experiment, "start_ms": start_ms},
    )
    return [
        FeatureRow(
            key=(client_id,),
            values={
                "history_impressions": shown,
                "history_clicks": clicked,
                "history_conversions": bought,
                "segment": "buyer" if bought else "clicker" if clicked else "browser",
            },
            event_us=start_ms * 1000,
        )
        for client_id, shown, clicked, bought in found
    ]


def _rows(client: Client, statement: str, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
    return client.query(statement, parameters=values).result_rows
