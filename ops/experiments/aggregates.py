"""An experiment's figures as ClickHouse computes them: counts, means, covariances over shoppers, no raw rows.

One query serves every cut and every moment: each shopper's activity is summed per look (a moment at which
the result is taken stock of), accumulated over looks, and aggregated over the shoppers of an arm. Beyond one
pass over the events its cost is shoppers x looks x 2.

Who counts: a shopper (`client_id`) with exposures in one arm only; those seen in several arms are left out
and counted. What counts: rows stamped with the experiment's arm; clicks and purchases that were attributed to
an impression. A cut by traffic class holds the shoppers exposed to queries of the class and what they did on
these. History is what the same shopper was shown and clicked outside the experiment before its start, on all
queries in every cut: it is settled before the experiment, so it may explain but not bias.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
from clickhouse_connect.driver.client import Client
from tea_tasting.aggr import Aggregates

#: What is summed per shopper, and with their history the order of the covariance matrix.
ACTIVITY = ("impressions", "clicked_impressions", "clicks", "purchases", "revenue")
VARIABLES = (*ACTIVITY, "history_impressions", "history_clicked_impressions")
ALL_TRAFFIC = "all"
MAX_LOOKS = 40
#: Of the shoppers' first exposures, so that one device whose clock is wrong does not move the start by years.
START_QUANTILE = 0.01
MAX_EXECUTION_S = 60
LOOK_WIDTHS_S = (5, 10, 30, 60, 120, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 86_400)

_SETTINGS = f"SETTINGS final = 1, max_execution_time = {MAX_EXECUTION_S}, join_use_nulls = 0"
_WINDOW = (
    "event_time >= fromUnixTimestamp64Milli({from_ms:Int64}) "
    "AND event_time < fromUnixTimestamp64Milli({until_ms:Int64})"
)
_IN_EXPERIMENT = "arms[{experiment:String}] != '' AND client_id != '' AND " + _WINDOW
_HISTORY = (
    "arms[{experiment:String}] = '' AND client_id != '' "
    "AND event_time < fromUnixTimestamp64Milli({start_ms:Int64})"
)
#: An impression stamped a moment before its query's exposure belongs to the first look.
_LOOK = "greatest(intDiv(toUnixTimestamp64Milli({time}) - {{grid_start_ms:Int64}}, {{width_ms:Int64}}), 0)"


class Window(msgspec.Struct, frozen=True):
    """Half-open stretch of event time, epoch milliseconds: what happened outside is not the experiment's."""

    from_ms: int
    until_ms: int


class Looks(msgspec.Struct, frozen=True):
    """`count` moments `width_ms` apart, epoch milliseconds: look i (from 0) takes stock of everything before
    `start_ms + (i + 1) * width_ms`."""

    start_ms: int
    width_ms: int
    count: int

    def at_ms(self, look: int) -> int:
        """Return the moment of a look (from 0), epoch milliseconds."""
        return self.start_ms + (look + 1) * self.width_ms


class Exposed(msgspec.Struct, frozen=True):
    """Who was exposed: the start in epoch milliseconds (None if nobody was), shoppers per arm without those
    seen in several arms, and how many these are. By the start, one shopper in a hundred had been exposed."""

    start_ms: int | None
    shoppers: dict[str, int]
    in_several_arms: int


class Serving(msgspec.Struct, frozen=True):
    """How an arm's queries were served. `latency_p99_ms` is None if no query said its latency;
    `slow` counts those above the limit, `fallbacks` those scored without the model."""

    queries: int
    timed: int
    latency_p99_ms: float | None
    slow: int
    fallbacks: int


#: Aggregates by (traffic class or ALL_TRAFFIC, look, arm); cells without shoppers are missing.
Cells = dict[tuple[str, int, str], Aggregates]


def looks_between(start_ms: int, until_ms: int, *, most: int = MAX_LOOKS) -> Looks:
    """Return at most `most` looks at round times, the last at or after `until_ms`.

    >>> looks_between(1_000, 61_000)
    Looks(start_ms=0, width_ms=5000, count=13)
    """
    span_ms = max(until_ms - start_ms, 1)
    # One look may be lost on rounding the start down.
    widths = (width_s * 1000 for width_s in LOOK_WIDTHS_S if width_s * 1000 * (most - 1) >= span_ms)
    day_ms = LOOK_WIDTHS_S[-1] * 1000
    width_ms = next(widths, math.ceil(span_ms / (most - 1) / day_ms) * day_ms)
    first_ms = start_ms - start_ms % width_ms
    return Looks(first_ms, width_ms, max(math.ceil((until_ms - first_ms) / width_ms), 1))


def exposed(client: Client, *, experiment: str, window: Window) -> Exposed:
    """Return who was exposed to the experiment within the window."""
    statement = f"""
        SELECT only_arm, count(), (
            SELECT toUnixTimestamp64Milli(quantileExactLow({START_QUANTILE})(first_time)) FROM shoppers
        )
        FROM shoppers
        GROUP BY only_arm
        {_SETTINGS}"""  # noqa: S608 - made of constants; values are bound
    with_shoppers = f"""
        WITH shoppers AS (
            SELECT min(event_time) AS first_time, if(uniqExact(arm) = 1, any(toString(arm)), '') AS only_arm
            FROM exposures
            WHERE experiment = {{experiment:String}} AND arm != '' AND client_id != '' AND {_WINDOW}
            GROUP BY client_id
        )"""  # noqa: S608 - made of constants; values are bound
    rows = _rows(
        client, with_shoppers + statement, {"experiment": experiment} | msgspec.structs.asdict(window)
    )
    counts = {arm: count for arm, count, _ in rows}
    return Exposed(
        rows[0][2] if rows else None,
        {arm: count for arm, count in sorted(counts.items()) if arm},
        counts.get("", 0),
    )


def cells(client: Client, *, experiment: str, window: Window, start_ms: int, looks: Looks) -> Cells:
    """Return the aggregates over shoppers of `VARIABLES`, for every traffic class, look and arm.

    `start_ms` is the experiment's start: history lies before it. Variances and covariances are the
    sample's (n - 1); both are 0 where a cell holds one shopper.
    """
    zeros = "0 AS impressions, 0 AS clicked_impressions, 0 AS clicks, 0 AS purchases, 0. AS revenue"
    look = _LOOK.format(time="event_time")
    first_look = _LOOK.format(time="min(event_time)")
    by_look = "GROUP BY client_id, traffic_class, look"
    names = ", ".join(ACTIVITY)
    sums = ", ".join(f"sum(increments.{name}) AS {name}" for name in ACTIVITY)
    # An array per shopper with an element per look: a third of the time of grouping a row for each.
    dense = "arrayMap(i -> if(i = look, merged.{name}, 0), range({{looks:UInt32}}))"
    running = ", ".join(f"arrayCumSum(sumForEach({dense.format(name=name)})) AS {name}" for name in ACTIVITY)
    means = ", ".join(f"avg({name})" for name in VARIABLES)
    statement = f"""
        WITH
        shoppers AS (
            SELECT client_id, any(toString(arm)) AS only_arm
            FROM exposures
            WHERE experiment = {{experiment:String}} AND arm != '' AND client_id != '' AND {_WINDOW}
            GROUP BY client_id
            HAVING uniqExact(arm) = 1
        ),
        increments AS (
            SELECT client_id, traffic_class, {first_look} AS look, {zeros}
            FROM exposures
            WHERE experiment = {{experiment:String}} AND {_WINDOW}
            GROUP BY client_id, traffic_class
            UNION ALL
            SELECT client_id, traffic_class, {look} AS look, count(), 0, 0, 0, 0.
            FROM impressions WHERE {_IN_EXPERIMENT} {by_look}
            UNION ALL
            SELECT client_id, traffic_class, {look} AS look, 0, 0, count(), 0, 0.
            FROM clicks WHERE {_IN_EXPERIMENT} AND attribution = 'impression' {by_look}
            UNION ALL
            SELECT client, class, look, 0, count(), 0, 0, 0.
            FROM (
                SELECT any(client_id) AS client, any(traffic_class) AS class, {first_look} AS look
                FROM clicks WHERE {_IN_EXPERIMENT} AND attribution = 'impression'
                GROUP BY impression_id
            )
            GROUP BY client, class, look
            UNION ALL
            SELECT client_id, traffic_class, {look} AS look, 0, 0, 0, count(), sum(revenue)
            FROM conversions
            WHERE {_IN_EXPERIMENT} AND attribution = 'impression' AND kind = 'purchase' {by_look}
        ),
        merged AS (
            SELECT client_id, traffic_class, look, {sums}
            FROM increments
            WHERE client_id IN (SELECT client_id FROM shoppers)
            GROUP BY client_id, traffic_class, look
        ),
        totals AS (
            SELECT client_id, cut, at_look, {names}
            FROM (
                SELECT client_id, cut, min(look) AS first_look, {running}
                FROM merged
                GROUP BY client_id, arrayJoin(['{ALL_TRAFFIC}', toString(traffic_class)]) AS cut
            )
            ARRAY JOIN range({{looks:UInt32}}) AS at_look, {names}
            WHERE at_look >= first_look
        ),
        history AS (
            SELECT client_id, sum(shown) AS history_impressions, sum(clicked) AS history_clicked_impressions
            FROM (
                SELECT client_id, count() AS shown, 0 AS clicked
                FROM impressions WHERE {_HISTORY} GROUP BY client_id
                UNION ALL
                SELECT client_id, 0, uniqExact(impression_id)
                FROM clicks WHERE {_HISTORY} AND attribution = 'impression' GROUP BY client_id
            )
            GROUP BY client_id
        )
        SELECT cut, at_look, only_arm, count(), [{means}], covarSampMatrix({", ".join(VARIABLES)})
        FROM totals
        INNER JOIN shoppers ON totals.client_id = shoppers.client_id
        LEFT JOIN history ON totals.client_id = history.client_id
        GROUP BY cut, at_look, only_arm
        {_SETTINGS}"""  # noqa: S608 - made of constants; values are bound
    bound = msgspec.structs.asdict(window) | {
        "experiment": experiment,
        "start_ms": start_ms,
        "grid_start_ms": looks.start_ms,
        "width_ms": looks.width_ms,
        "looks": looks.count,
    }
    return {
        (traffic_class, look, arm): to_aggregates(count, mean, covariance)
        for traffic_class, look, arm, count, mean, covariance in _rows(client, statement, bound)
    }


def to_aggregates(count: int, mean: list[float], covariance: list[list[float]]) -> Aggregates:
    """Return one cell: `mean` has as many values as `VARIABLES`, `covariance` as many rows and columns."""
    known = count > 1
    return Aggregates(
        count_=count,
        mean_=dict(zip(VARIABLES, mean, strict=True)),
        var_={name: covariance[i][i] if known else 0.0 for i, name in enumerate(VARIABLES)},
        cov_={
            (left, right): covariance[i][j] if known else 0.0
            for i, left in enumerate(VARIABLES)
            for j, right in enumerate(VARIABLES)
            if i < j
        },
    )


def serving(client: Client, *, experiment: str, window: Window, limit_ms: float) -> dict[str, Serving]:
    """Return by arm how its queries were served; `limit_ms` is the latency above which one is slow."""
    statement = f"""
        SELECT toString(arms[{{experiment:String}}]) AS arm, count(), count(latency_ms),
            quantileTDigest(0.99)(latency_ms), countIf(latency_ms > {{limit_ms:Float64}}), countIf(fallback)
        FROM queries WHERE {_IN_EXPERIMENT} GROUP BY arm
        {_SETTINGS}"""  # noqa: S608 - made of constants; values are bound
    bound = msgspec.structs.asdict(window) | {"experiment": experiment, "limit_ms": limit_ms}
    return {
        arm: Serving(queries, timed, float(p99) if timed else None, slow, fallbacks)
        for arm, queries, timed, p99, slow, fallbacks in _rows(client, statement, bound)
    }


def _rows(client: Client, statement: str, bound: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in client.query(statement, parameters=dict(bound)).result_rows]
