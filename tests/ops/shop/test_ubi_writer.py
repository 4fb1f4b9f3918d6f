from __future__ import annotations

import json
from typing import TypedDict

import pytest

from ops.shop.ad_engine import Page, Placement
from ops.shop.items import Item
from ops.shop.ubi_writer import event_record, query_record
from streams.records import Action

HOSTILE = "<script>alert('x')</script>\u2028\"'; DROP TABLE queries --"
ITEM = Item(item_id="sku-1", title=HOSTILE, brand="", category=(), attributes={}, price=19.99)
PAGE = Page(
    query=HOSTILE,
    arms={"ranking": "treatment"},
    student_version="lexical",
    latency_ms=1.23456,
    fallback=True,
    placements=(Placement(ITEM, 0.123456789, 0.4),),
)


class Who(TypedDict):
    query_id: str
    client_id: str
    session_id: str


WHO = Who(query_id="q", client_id="c", session_id="s")


def test_a_search_is_a_ubi_query() -> None:
    assert query_record(PAGE, response_id="r", at_ms=1_733_788_889_378, **WHO) == {
        "application": "relevance-shop",
        "query_id": "q",
        "client_id": "c",
        "session_id": "s",
        "user_query": HOSTILE,
        "timestamp": "2024-12-10T00:01:29.378Z",
        "query_attributes": {
            "arms": {"ranking": "treatment"},
            "student_version": "lexical",
            "latency_ms": 1.235,
            "fallback": True,
        },
        "query_response_id": "r",
        "query_response_hit_ids": ["sku-1"],
    }


@pytest.mark.parametrize(
    ("action", "message_type", "extra"),
    [
        (Action.IMPRESSION, "IMPRESSION", {}),
        (Action.CLICK, "CLICK_THROUGH", {}),
        (Action.ADD_TO_CART, "CONVERSION", {"quantity": 3}),
        (Action.PURCHASE, "CONVERSION", {"quantity": 3, "revenue": 59.97}),
    ],
)
def test_an_action_is_a_ubi_event(action: Action, message_type: str, extra: dict[str, float]) -> None:
    record = event_record(PAGE, action, position=1, event_id="e", at_ms=5, quantity=3, **WHO)
    assert record == {
        "application": "relevance-shop",
        "action_name": action.value,
        "query_id": "q",
        "session_id": "s",
        "client_id": "c",
        "timestamp": "1970-01-01T00:00:00.005Z",
        "user_query": HOSTILE,
        "message_type": message_type,
        "message": HOSTILE,
        "event_attributes": {
            "object": {"object_id": "sku-1", "object_id_field": "sku"},
            "position": {"ordinal": 0},
            "event_id": "e",
            "score": 0.123457,
            "bid": 0.4,
            "student_version": "lexical",
            "price": 19.99,
            **extra,
        },
    }
    assert json.loads(json.dumps(record)) == record


def test_a_position_that_is_not_on_the_page_is_an_error() -> None:
    with pytest.raises(IndexError):
        event_record(PAGE, Action.CLICK, position=2, event_id="e", at_ms=5, **WHO)
