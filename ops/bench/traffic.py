"""Traffic whose counts are known beforehand: for measuring throughput and for proving that nothing is lost.

Every page is one search with ten impressions, one click and, on every fifth page, a purchase.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from ops.kafka import json_bytes
from streams.topics import UBI_EVENTS, UBI_QUERIES

IMPRESSIONS = 10
PURCHASE_EVERY = 5
CLICK_AFTER_MS = 3_000
PURCHASE_AFTER_MS = 60_000


def expected_counts(pages: int) -> dict[str, int]:
    """Return how many events of each kind `pages` pages hold."""
    return {
        "queries": pages,
        "impressions": IMPRESSIONS * pages,
        "clicks": pages,
        "purchases": len(range(0, pages, PURCHASE_EVERY)),
    }


def records(
    pages: int, *, seed: int, start_ms: int, spread_ms: int = 0
) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield (topic, key, value) of `pages` pages, in order.

    Event times lie between `start_ms` and `spread_ms` later, plus the delay of clicks and purchases.
    """
    rng = random.Random(seed)
    run = f"{seed}-{start_ms}"
    for page in range(pages):
        query_id = f"load-{run}-{page}"
        key = query_id.encode()
        at_ms = start_ms + (spread_ms * page // pages if pages else 0)
        query = f"query {int(rng.paretovariate(0.8)) % 50_000}"
        common = {"application": "load", "query_id": query_id, "client_id": f"c{rng.randrange(2000)}"}
        arm = "treatment" if rng.random() < 0.5 else "control"
        search = {"user_query": query, "timestamp": at_ms, "query_attributes": {"arms": {"ranking": arm}}}
        yield UBI_QUERIES, key, json_bytes(common | search)
        first_item = rng.randrange(20_000)
        for position in range(IMPRESSIONS):
            yield UBI_EVENTS, key, _event(common, query, "impression", at_ms, first_item + position, position)
        clicked = rng.randrange(IMPRESSIONS)
        yield (
            UBI_EVENTS,
            key,
            _event(common, query, "click", at_ms + CLICK_AFTER_MS, first_item + clicked, clicked),
        )
        if page % PURCHASE_EVERY == 0:
            bought_ms = at_ms + PURCHASE_AFTER_MS
            yield UBI_EVENTS, key, _event(common, query, "purchase", bought_ms, first_item + clicked, clicked)


def _event(common: dict[str, str], query: str, action: str, at_ms: int, item: int, position: int) -> bytes:
    attributes: dict[str, object] = {
        "object": {"object_id": f"item-{item}", "object_id_field": "sku"},
        "position": {"ordinal": position},
        "score": 0.5,
        "bid": 0.1,
        "student_version": "lexical",
    }
    if action == "purchase":
        attributes |= {"revenue": 19.9, "quantity": 1}
    event = {
        "action_name": action,
        "session_id": "s1",
        "user_query": query,
        "timestamp": at_ms,
        "message_type": None,
        "message": None,
        "event_attributes": attributes,
    }
    return json_bytes(common | event)
