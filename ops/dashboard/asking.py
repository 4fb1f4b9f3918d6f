"""How the pages ask ClickHouse: values are bound, answers have a time limit, corrected rows count once."""

from __future__ import annotations

from typing import Any

from clickhouse_connect.driver.client import Client

MAX_EXECUTION_S = 15
#: Ends a statement. With FINAL, tables give the newest version of each row.
TIMED = f"SETTINGS max_execution_time = {MAX_EXECUTION_S}"
FINAL = TIMED + ", final = 1"
AT_MS = "toUnixTimestamp64Milli(event_time)"
#: A chart over time has about so many bars.
BARS = 40


def fetch(client: Client, statement: str, **bound: Any) -> list[dict[str, Any]]:
    """Return the answer's rows by column. Raises ClickHouseError."""
    return list(client.query(statement, parameters=bound).named_results())


def bucket_width_ms(span_ms: int) -> int:
    """Return a width people can name that cuts a span into at most `BARS` buckets, or into days.

    >>> [bucket_width_ms(hours * 3_600_000) // 60_000 for hours in (0, 1, 24, 24 * 30)]
    [1, 2, 60, 1440]
    """
    minutes = (1, 2, 5, 10, 20, 30, 60, 120, 180, 360, 720, 1440)
    return next((m for m in minutes if m * BARS * 60_000 >= span_ms), minutes[-1]) * 60_000
