"""Rows and records that the tests share."""

from __future__ import annotations

from typing import Any

from feature_store.rows import FeatureRow
from streams.records import EngagementWindow, ItemEngagement, StudentStep

NOW_MS = 1_800_000_000_000


def statistics(query: str, event_us: int, frequency: int | None = 1, **values: Any) -> FeatureRow:
    """Return a row of `query_statistics`."""
    return FeatureRow(
        key=(query,),
        values={"frequency": frequency, "traffic_class": "tail", "teacher_coverage": 0.25} | values,
        event_us=event_us,
    )


def window(
    query: str, *counts: tuple[str, int, int], start_s: int = 3600, updated_ms: int = NOW_MS
) -> EngagementWindow:
    """Return a window; `counts` are (item id, impressions, clicks)."""
    return EngagementWindow(
        query=query,
        window_start_s=start_s,
        window_s=3600,
        updated_ms=updated_ms,
        items=[ItemEngagement(item, shown, clicks, 0, shown / 4) for item, shown, clicks in counts],
    )


def step(kind: str, *, version: int, **values: Any) -> StudentStep:
    """Return a step of a version, by default its publication as what serves nothing yet."""
    fields: dict[str, Any] = {
        "step_id": 1,
        "step": "published",
        "kind": kind,
        "version": version,
        "parent": 0,
        "offsets": {},
        "gate": {},
        "decision": "",
        "champion": 0,
        "challenger": 0,
        "previous": 0,
        "pinned": False,
        "at_ms": NOW_MS,
    }
    return StudentStep(**(fields | values))
