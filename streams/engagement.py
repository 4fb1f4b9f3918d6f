"""Engagement of query-item pairs in windows of event time, with clicks corrected for position.

COEC = clicks / expected clicks (Zhang & Jones, "Comparing click logs and editorial labels", WWW 2007): an
impression is expected to be clicked as often as the average impression at its position. The averages are learned
from the same stream, starting from a weak prior that falls with position.

These counts feed features; replays after a crash may inflate them by at most the last uncommitted batch. Exact
figures come from the rows in ClickHouse.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

import msgspec

from streams.records import EngagementDelta, EngagementWindow, ItemEngagement, TrafficClass

#: Positions beyond share one average.
DEEPEST_POSITION = 50
#: The prior's click-through rate at position 1, and how many impressions it is worth at each position.
PRIOR_CTR = 0.1
PRIOR_IMPRESSIONS = 100.0
#: Items kept per query and window, the first ones seen.
MAX_ITEMS = 500


class PositionCurve:
    """Click-through rate by position, learned as impressions and clicks pass. Position 0 means unknown."""

    def __init__(self) -> None:
        self.impressions = [0] * (DEEPEST_POSITION + 1)
        self.clicks = [0] * (DEEPEST_POSITION + 1)

    def learn(self, position: int, impressions: int, clicks: int) -> None:
        """Add counts at a position >= 0."""
        index = min(position, DEEPEST_POSITION)
        self.impressions[index] += impressions
        self.clicks[index] += clicks

    def expected_clicks(self, position: int) -> float:
        """Return the click-through rate to expect of one impression at a position, in (0, 1)."""
        index = min(position, DEEPEST_POSITION)
        prior = PRIOR_CTR / max(index, 1) ** 0.5 * PRIOR_IMPRESSIONS
        rate: float = (self.clicks[index] + prior) / (self.impressions[index] + PRIOR_IMPRESSIONS)
        return min(rate, 1.0)


class QueryWindow(msgspec.Struct, array_like=True):
    """The counts of one query in one window, by item; `searches` is the most that a delta told, with its class."""

    items: dict[str, ItemEngagement]
    searches: int = 0
    traffic_class: str = TrafficClass.UNKNOWN.value


class Engagement:
    """Windows of one partition of queries: adds deltas, hands out what changed, forgets old windows.

    Holds `windows_kept` windows of `window_s` seconds. Later deltas for a window already forgotten start it anew.
    """

    def __init__(self, *, window_s: int, windows_kept: int) -> None:
        self._window_s = window_s
        self._windows_kept = windows_kept
        self._windows: OrderedDict[int, dict[str, QueryWindow]] = OrderedDict()
        self._changed: set[tuple[int, str]] = set()
        self.curve = PositionCurve()

    def add(self, delta: EngagementDelta) -> None:
        """Count one delta."""
        queries = self._windows.get(delta.window_start_s)
        if queries is None:
            queries = self._windows[delta.window_start_s] = {}
        window = queries.get(delta.query)
        if window is None:
            window = queries[delta.query] = QueryWindow({})
        if delta.searches >= window.searches:
            window.searches, window.traffic_class = delta.searches, delta.traffic_class
        item = window.items.get(delta.item_id)
        if item is None:
            if len(window.items) >= MAX_ITEMS:
                return
            item = window.items[delta.item_id] = ItemEngagement(delta.item_id)
        if delta.impressions:
            item.expected_clicks += delta.impressions * self.curve.expected_clicks(delta.position)
        item.impressions += delta.impressions
        item.clicks += delta.clicks
        item.purchases += delta.purchases
        if delta.score is not None and 0 <= delta.score <= 1:
            item.scored += 1
            item.score_sum += delta.score
        self.curve.learn(delta.position, delta.impressions, delta.clicks)
        self._changed.add((delta.window_start_s, delta.query))

    def take_changed(self, *, now_ms: int) -> list[EngagementWindow]:
        """Return every window that changed since the last call, whole."""
        changed, self._changed = self._changed, set()
        return [
            EngagementWindow(
                query=query,
                window_start_s=start_s,
                window_s=self._window_s,
                updated_ms=now_ms,
                items=list(self._windows[start_s][query].items.values()),
                searches=self._windows[start_s][query].searches,
                traffic_class=self._windows[start_s][query].traffic_class,
            )
            for start_s, query in sorted(changed)
            if start_s in self._windows
        ]

    def restore(self, windows: Iterable[EngagementWindow]) -> None:
        """Take over windows that were stored. The position curve is learned anew."""
        for window in windows:
            queries = self._windows.setdefault(window.window_start_s, {})
            queries[window.query] = QueryWindow(
                {item.item_id: item for item in window.items}, window.searches, window.traffic_class
            )

    def forget_old(self) -> Iterator[tuple[int, str]]:
        """Drop all but the latest windows and yield (window start, query) of what was dropped."""
        for start_s in sorted(self._windows)[: -self._windows_kept]:
            for query in self._windows.pop(start_s):
                yield start_s, query

    def __len__(self) -> int:
        """Return how many pairs are held."""
        return sum(len(window.items) for queries in self._windows.values() for window in queries.values())
