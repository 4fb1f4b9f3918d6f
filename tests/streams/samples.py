"""Records as clients send them, for tests."""

from __future__ import annotations

import json
from typing import Any

NOW_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


def query_record(**changes: Any) -> dict[str, Any]:
    """Return a UBI query."""
    return {
        "application": "shop",
        "query_id": "q1",
        "client_id": "c1",
        "session_id": "s1",
        "user_query": "Red Shoes",
        "timestamp": NOW_MS,
        "query_attributes": {"arms": {"ranking": "treatment"}, "student_version": "v1"},
    } | changes


def event_record(action: str = "impression", *, item: str = "i1", ordinal: int = 0, **changes: Any) -> Any:
    """Return a UBI event on an item."""
    return {
        "application": "shop",
        "action_name": action,
        "query_id": "q1",
        "client_id": "c1",
        "session_id": "s1",
        "user_query": "Red Shoes",
        "timestamp": NOW_MS,
        "event_attributes": {
            "object": {"object_id": item, "object_id_field": "sku"},
            "position": {"ordinal": ordinal},
        },
    } | changes


def encode(record: object) -> bytes:
    """Return a record's bytes."""
    return json.dumps(record).encode()
