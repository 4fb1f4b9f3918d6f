"""Records of `relevance.pairs`: what is a pair, and what is refused with which reason."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.item_text import content_hash
from streams.records import Pair
from teacher.intake import MAX_TEXT_CHARS, RefusedPairError, typed

GOOD: dict[str, Any] = {
    "query": "red kettle",
    "item_id": "i1",
    "item_text": "Kettle",
    "content_hash": content_hash("Kettle"),
    "reasons": {"priority": 0.5},
    "sampled_ms": 1,
    "deadline_ms": 2,
}


def test_a_pair_comes_back_as_it_was_sent() -> None:
    pair = Pair(**GOOD)
    assert typed(msgspec.json.encode(pair)) == pair


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"query": ""}, "wrong_length"),
        ({"item_id": ""}, "wrong_length"),
        ({"item_id": "x" * 513}, "wrong_length"),
        ({"item_text": ""}, "wrong_length"),
        ({"item_text": "x" * (MAX_TEXT_CHARS + 1)}, "wrong_length"),
        ({"content_hash": "another"}, "wrong_content_hash"),
        ({"query": 5}, "not_a_pair"),
        ({"reasons": {"priority": "high"}}, "not_a_pair"),
        ({"deadline_ms": "soon"}, "not_a_pair"),
    ],
)
def test_what_cannot_be_judged_says_why(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RefusedPairError) as refused:
        typed(msgspec.json.encode(GOOD | changes))
    assert refused.value.reason == reason
    assert str(refused.value)


@given(st.none() | st.binary())
def test_any_bytes_are_a_pair_or_refused(value: bytes | None) -> None:
    with pytest.raises(RefusedPairError):
        typed(value)
