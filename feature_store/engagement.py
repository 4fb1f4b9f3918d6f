"""Pair engagement: the counts of a pair's latest windows, merged as windows arrive, and their sums.

A row carries its windows, so it alone says what the next window adds; nothing is held between batches. A window
replaces the one of the same start that was reported earlier, so repeats and replays change nothing, and a late
event counts in its own window.

A row's event time is when its counts became known (`updated_ms` of the window), not the time of the events: what
training reads for a moment must not hold clicks that had not been counted by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from feature_store.rows import FeatureRow
from streams.records import EngagementWindow, ItemEngagement

Pair = tuple[str, str]


class PairWindow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A pair's counts in the window from `start_s`, as reported at `updated_ms`."""

    start_s: int
    updated_ms: int
    impressions: int
    clicks: int
    purchases: int
    expected_clicks: float

    def counts(self) -> tuple[int, int, int, float]:
        """Return the counts alone."""
        return self.impressions, self.clicks, self.purchases, self.expected_clicks


_decode = msgspec.msgpack.Decoder(list[PairWindow]).decode
_encode = msgspec.msgpack.Encoder().encode


class Known(msgspec.Struct, frozen=True, gc=False):
    """What the store holds of a pair: its windows as bytes and its row's event time."""

    windows: bytes
    event_us: int


def pairs_of(windows: Iterable[EngagementWindow]) -> list[Pair]:
    """Return every (item id, query) of the windows once: the keys of their rows."""
    return list({(item.item_id, window.query): None for window in windows for item in window.items})


def merge(
    windows: Iterable[EngagementWindow], known: Mapping[Pair, Known], *, windows_kept: int
) -> list[FeatureRow]:
    """Return the rows of the pairs whose counts change, each later than the row it follows.

    `known` is keyed as `pairs_of` gives pairs. A pair keeps the windows that started less than `windows_kept`
    windows before its latest one. Raises ValueError if the windows of a known row can't be read.
    """
    held: dict[Pair, dict[int, PairWindow]] = {}
    length_s: dict[Pair, int] = {}
    learned_us: dict[Pair, int] = {}
    for window in windows:
        for item in window.items:
            pair = (item.item_id, window.query)
            of_pair = held.get(pair)
            if of_pair is None:
                of_pair = held[pair] = _windows(known.get(pair))
            before = of_pair.get(window.window_start_s)
            reported = _pair_window(window, item)
            if before is not None and (
                reported.updated_ms <= before.updated_ms or reported.counts() == before.counts()
            ):
                continue
            latest_s = max(of_pair, default=window.window_start_s)
            if window.window_start_s <= latest_s - windows_kept * window.window_s:
                continue
            of_pair[window.window_start_s] = reported
            length_s[pair] = window.window_s
            learned_us[pair] = max(learned_us.get(pair, 0), window.updated_ms * 1000)
    rows = []
    for pair, event_us in learned_us.items():
        # A row that says more than another must be later, even when both were learned in one millisecond.
        before_us = known[pair].event_us if pair in known else 0
        oldest_s = max(held[pair]) - windows_kept * length_s[pair]
        kept = [one for start_s, one in sorted(held[pair].items(), reverse=True) if start_s > oldest_s]
        rows.append(FeatureRow(key=pair, values=_values(kept), event_us=max(event_us, before_us + 1)))
    return rows


def _pair_window(window: EngagementWindow, item: ItemEngagement) -> PairWindow:
    return PairWindow(
        window.window_start_s,
        window.updated_ms,
        item.impressions,
        item.clicks,
        item.purchases,
        item.expected_clicks,
    )


def _windows(known: Known | None) -> dict[int, PairWindow]:
    if known is None:
        return {}
    try:
        return {window.start_s: window for window in _decode(known.windows)}
    except msgspec.DecodeError as error:
        raise ValueError(f"expected the windows of a pair as this module writes them: {error}") from error


def _values(windows: list[PairWindow]) -> dict[str, int | float | bytes | None]:
    latest = windows[0]
    clicks = sum(window.clicks for window in windows)
    expected = sum(window.expected_clicks for window in windows)
    return {
        "impressions": sum(window.impressions for window in windows),
        "clicks": clicks,
        "purchases": sum(window.purchases for window in windows),
        "expected_clicks": expected,
        "coec": _coec(clicks, expected),
        "window_start_s": latest.start_s,
        "latest_impressions": latest.impressions,
        "latest_clicks": latest.clicks,
        "latest_purchases": latest.purchases,
        "latest_expected_clicks": latest.expected_clicks,
        "latest_coec": _coec(latest.clicks, latest.expected_clicks),
        "windows": _encode(windows),
    }


def _coec(clicks: int, expected_clicks: float) -> float | None:
    """Return clicks over expected clicks (see `streams.engagement`), None where none are expected."""
    return clicks / expected_clicks if expected_clicks > 0 else None
