"""Writes searches and what shoppers do as User Behavior Insights (UBI) records, plus what an ad engine adds.

Pure functions that return plain dicts; positions are written from 0, as most UBI clients do.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from ops.shop.ad_engine import Page
from streams.records import Action

APPLICATION = "relevance-shop"
ITEM_ID_FIELD = "sku"
_MESSAGE_TYPES = {
    Action.IMPRESSION: "IMPRESSION",
    Action.CLICK: "CLICK_THROUGH",
    Action.ADD_TO_CART: "CONVERSION",
    Action.PURCHASE: "CONVERSION",
}


def timestamp(at_ms: int) -> str:
    """Write epoch milliseconds as ISO 8601 in UTC.

    >>> timestamp(1_733_788_889_378)
    '2024-12-10T00:01:29.378Z'
    """
    moment = datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}.{at_ms % 1000:03d}Z"


def query_record(
    page: Page, *, query_id: str, response_id: str, client_id: str, session_id: str, at_ms: int
) -> dict[str, Any]:
    """Return the UBI query of a search and the page that answered it."""
    return {
        "application": APPLICATION,
        "query_id": query_id,
        "client_id": client_id,
        "session_id": session_id,
        "user_query": page.query,
        "timestamp": timestamp(at_ms),
        "query_attributes": {
            "arms": page.arms,
            "student_version": page.student_version,
            "latency_ms": round(page.latency_ms, 3),
            "fallback": page.fallback,
            **({} if page.features is None else {"features": msgspec.to_builtins(page.features)}),
        },
        "query_response_id": response_id,
        "query_response_hit_ids": [placement.item.item_id for placement in page.placements],
    }


def event_record(
    page: Page,
    action: Action,
    *,
    position: int,
    event_id: str,
    query_id: str,
    client_id: str,
    session_id: str,
    at_ms: int,
    quantity: int = 1,
) -> dict[str, Any]:
    """Return the UBI event of an action on the item at `position` (from 1). Revenue is price x quantity."""
    placement = page.placements[position - 1]
    attributes: dict[str, Any] = {
        "object": {"object_id": placement.item.item_id, "object_id_field": ITEM_ID_FIELD},
        "position": {"ordinal": position - 1},
        "event_id": event_id,
        "score": round(placement.score, 6),
        "bid": placement.bid,
        "student_version": page.student_version,
        "price": placement.item.price,
    }
    if action in (Action.ADD_TO_CART, Action.PURCHASE):
        attributes["quantity"] = quantity
    if action is Action.PURCHASE:
        attributes["revenue"] = round(placement.item.price * quantity, 2)
    return {
        "application": APPLICATION,
        "action_name": action.value,
        "query_id": query_id,
        "session_id": session_id,
        "client_id": client_id,
        "timestamp": timestamp(at_ms),
        "user_query": page.query,
        "message_type": _MESSAGE_TYPES[action],
        "message": placement.item.title,
        "event_attributes": attributes,
    }
