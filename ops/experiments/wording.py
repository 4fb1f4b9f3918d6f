"""Numbers as the report's sentences write them."""

from __future__ import annotations

from datetime import UTC, datetime

from ops.experiments.statistics import Interval

DAY_MS = 86_400_000


def percent(share: float, digits: int = 1) -> str:
    """Write a share as a percentage.

    >>> percent(0.0531)
    '5.3 %'
    """
    return f"{share * 100:.{digits}f} %"


def change(share: float) -> str:
    """Write a relative change with its sign.

    >>> change(-0.1234)
    '-12.3 %'
    """
    return f"{share * 100:+.1f} %"


def span(interval: Interval) -> str:
    """Write an interval of relative changes.

    >>> span(Interval(0.041, 0.205))
    '+4.1 % to +20.5 %'
    """
    return f"{change(interval.lower)} to {change(interval.upper)}"


def moment(at_ms: int, *, now_ms: int) -> str:
    """Write a time (epoch milliseconds, UTC), with its day if that was more than a day ago.

    >>> moment(1_700_000_000_000, now_ms=1_700_000_100_000)
    '22:13 UTC'
    """
    at = datetime.fromtimestamp(at_ms / 1000, tz=UTC)
    return at.strftime("%H:%M UTC" if now_ms - at_ms < DAY_MS else "%d %b %Y %H:%M UTC")
