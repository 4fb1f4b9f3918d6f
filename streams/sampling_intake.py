"""What the sampler's topics say, typed and checked, or refused with a reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec

from streams.records import CatalogueItem, EngagementWindow, ItemEngagement, Judgement, Pair
from streams.sampler import Sampler
from streams.topics import CATALOGUE_ITEMS, ENGAGEMENT_WINDOWS, JUDGEMENTS, PAIRS

MAX_QUERY_CHARS = 4096
MAX_ID_CHARS = 512
MAX_COUNT = 1 << 53
Fact = Callable[[Sampler], None]

_window = msgspec.json.Decoder(EngagementWindow).decode
_item = msgspec.json.Decoder(CatalogueItem).decode
_judgement = msgspec.json.Decoder(Judgement).decode
_pair = msgspec.json.Decoder(Pair).decode


class RefusedError(ValueError):
    """A record can't be taken. `reason` is one word for the dead letter, the message says what was expected."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def fact(record: Any, *, latest_ms: int) -> Fact:
    """Return what a record of one of the topics, as kafka-python gives it, has to tell the sampler.

    No time in it may be after `latest_ms` (epoch milliseconds). Raises RefusedError.
    """
    value = record.value or b""
    if record.topic == ENGAGEMENT_WINDOWS:
        window: EngagementWindow = _typed(_window, value, "not_an_engagement_window")
        _check(window.query, "query", MAX_QUERY_CHARS)
        _check_time(window.updated_ms, latest_ms)
        for item in window.items:
            _check_item(item)
        return lambda sampler: sampler.observe(window)
    if record.topic == CATALOGUE_ITEMS:
        return _catalogue(record, latest_ms)
    if record.topic == JUDGEMENTS:
        judgement: Judgement = _typed(_judgement, value, "not_a_judgement")
        _check_pair(judgement.query, judgement.item_id, judgement.judged_ms, latest_ms)
        tokens = judgement.prompt_tokens, judgement.completion_tokens
        if not all(0 <= count < MAX_COUNT for count in tokens):
            raise RefusedError("wrong_count", f"expected tokens in [0, 2**53), got {tokens}")
        return lambda sampler: sampler.was_judged(judgement)
    if record.topic == PAIRS:
        pair: Pair = _typed(_pair, value, "not_a_pair")
        _check_pair(pair.query, pair.item_id, pair.sampled_ms, latest_ms)
        return lambda sampler: sampler.was_asked(pair)
    raise ValueError(f"expected a record of the sampler's topics, got one of {record.topic}")


def _catalogue(record: Any, latest_ms: int) -> Fact:
    try:
        item_id = (record.key or b"").decode()
    except UnicodeDecodeError as error:
        raise RefusedError("not_a_catalogue_item", f"expected the item's id as key: {error}") from error
    _check(item_id, "key", MAX_ID_CHARS)
    if not record.value:
        removed_ms = int(record.timestamp)
        _check_time(removed_ms, latest_ms)
        return lambda sampler: sampler.take_out(item_id, removed_ms=removed_ms)
    item: CatalogueItem = _typed(_item, record.value, "not_a_catalogue_item")
    if item.item_id != item_id:
        raise RefusedError(
            "wrong_key", f"expected the item's id as key, got {item_id[:80]!r} for {item.item_id[:80]!r}"
        )
    _check_time(item.updated_ms, latest_ms)
    return lambda sampler: sampler.offer(item)


def _typed(decode: Callable[[bytes], Any], value: bytes, reason: str) -> Any:
    try:
        return decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError(reason, str(error)) from error


def _check_pair(query: str, item_id: str, at_ms: int, latest_ms: int) -> None:
    _check(query, "query", MAX_QUERY_CHARS)
    _check(item_id, "item_id", MAX_ID_CHARS)
    _check_time(at_ms, latest_ms)


def _check_item(item: ItemEngagement) -> None:
    _check(item.item_id, "item_id", MAX_ID_CHARS)
    counts = (item.impressions, item.clicks, item.purchases, item.scored)
    if not all(0 <= count < MAX_COUNT for count in counts):
        raise RefusedError("wrong_count", f"expected counts in [0, 2**53), got {counts}")
    sums = (item.expected_clicks, item.score_sum)
    if not all(math.isfinite(value) and value >= 0 for value in sums):
        raise RefusedError("wrong_count", f"expected expected_clicks and score_sum >= 0, got {sums}")


def _check(text: str, name: str, max_chars: int) -> None:
    if not 0 < len(text) <= max_chars:
        raise RefusedError("wrong_key", f"expected a {name} of 1 to {max_chars} characters, got {len(text)}")


def _check_time(at_ms: int, latest_ms: int) -> None:
    if not 0 < at_ms <= latest_ms:
        raise RefusedError(
            "wrong_time", f"expected a time in epoch milliseconds, at most {latest_ms}, got {at_ms}"
        )
