"""What arrives on the topics, typed and checked, or refused with a reason.

What passes can be stored: ids and counts fit Feast's types, times are not so far ahead that no later record would
ever be newer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
from kafka.consumer.fetcher import ConsumerRecord

from feature_store.content import MAX_ID_CHARS, content_row, removed_row
from feature_store.judged import JudgedPair
from feature_store.rows import FeatureRow
from feature_store.statements import segment_row, statistics_row
from streams.dead_letters import DeadLetter, letter_of
from streams.records import (
    CatalogueItem,
    EngagementWindow,
    ItemEngagement,
    QueryStatistics,
    ShopperHistory,
    StudentStep,
    TrafficClass,
)

#: Exact in a double, which is what tables with gaps hold counts in.
MAX_COUNT = 1 << 53
MAX_QUERY_CHARS = 4096

_window = msgspec.json.Decoder(EngagementWindow).decode
_item = msgspec.json.Decoder(CatalogueItem).decode
_judged = msgspec.json.Decoder(JudgedPair).decode
_statistics = msgspec.json.Decoder(QueryStatistics).decode
_history = msgspec.json.Decoder(ShopperHistory).decode
_step = msgspec.json.Decoder(StudentStep).decode
_CLASSES = frozenset(each.value for each in TrafficClass)


@dataclass(frozen=True, slots=True)
class Limits:
    """How far ahead of `now_ms` (epoch milliseconds) a record's time may be."""

    now_ms: int
    max_future_ms: int


class RefusedError(ValueError):
    """A record can't be taken. `reason` is one word for the dead letter, the message says what was expected."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def engagement_window(record: ConsumerRecord, limits: Limits) -> EngagementWindow:
    """Return the window of a record of `engagement.windows`. Raises RefusedError."""
    try:
        window = _window(record.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError("not_an_engagement_window", str(error)) from error
    _check_time("updated_ms", window.updated_ms, limits)
    _check_text("query", window.query, MAX_QUERY_CHARS)
    if not (0 < window.window_s < MAX_COUNT and 0 <= window.window_start_s < MAX_COUNT):
        raise RefusedError("wrong_window", f"expected a window > 0 s from >= 0 s, got {window.window_s} s")
    for item in window.items:
        _check_item(item)
    return window


def catalogue_row(record: ConsumerRecord, limits: Limits) -> FeatureRow:
    """Return the row of a record of `catalogue.items`; one without a value takes its item out. Raises
    RefusedError."""
    try:
        key = (record.key or b"").decode()
        item = _item(record.value) if record.value else None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError("not_a_catalogue_item", str(error)) from error
    _check_text("key", key, MAX_ID_CHARS)
    if item is None:
        _check_time("time of the record", record.timestamp, limits)
        return removed_row(key, removed_ms=record.timestamp)
    if item.item_id != key:
        raise RefusedError(
            "wrong_key", f"expected the item's id as key, got {key[:80]!r} for {item.item_id[:80]!r}"
        )
    _check_time("updated_ms", item.updated_ms, limits)
    return content_row(item)


def query_statistics_row(record: ConsumerRecord, limits: Limits) -> FeatureRow:
    """Return the row of a record of `queries.statistics`. Raises RefusedError."""
    try:
        key, said = (record.key or b"").decode(), _statistics(record.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError("not_query_statistics", str(error)) from error
    _check_text("query", said.query, MAX_QUERY_CHARS)
    _check_key(key, said.query)
    _check_time("known_ms", said.known_ms, limits)
    _check_counts(said.query, said.frequency)
    if said.traffic_class not in _CLASSES:
        raise RefusedError(
            "wrong_class", f"expected one of {', '.join(sorted(_CLASSES))}, got {said.traffic_class[:80]!r}"
        )
    if not 0 <= said.teacher_coverage <= 1:
        raise RefusedError("wrong_share", f"expected teacher_coverage in [0, 1], got {said.teacher_coverage}")
    return statistics_row(said)


def shopper_history_row(record: ConsumerRecord, limits: Limits) -> FeatureRow:
    """Return the row of a record of `shoppers.history`. Raises RefusedError."""
    try:
        key, said = (record.key or b"").decode(), _history(record.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError("not_a_shopper_history", str(error)) from error
    _check_text("client_id", said.client_id, MAX_ID_CHARS)
    _check_key(key, said.client_id)
    _check_time("known_ms", said.known_ms, limits)
    _check_counts(said.client_id, said.impressions, said.clicks, said.conversions)
    return segment_row(said)


def judged_pair(record: ConsumerRecord) -> JudgedPair:
    """Return the pair of a record of `relevance.judgements`. Raises RefusedError."""
    try:
        pair = _judged(record.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError("not_a_judgement", str(error)) from error
    _check_text("query", pair.query, MAX_QUERY_CHARS)
    _check_text("item_id", pair.item_id, MAX_ID_CHARS)
    _check_text("content_hash", pair.content_hash, MAX_ID_CHARS)
    return pair


def student_step(record: ConsumerRecord, limits: Limits) -> StudentStep:
    """Return the step of a record of `relevance.students`. Raises RefusedError."""
    try:
        key, step = (record.key or b"").decode(), _step(record.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError("not_a_student_step", str(error)) from error
    _check_key(key, step.kind)
    _check_time("at_ms", step.at_ms, limits)
    _check_counts(step.kind, step.version, step.champion, step.challenger, step.previous)
    return step


def dead_letter(record: ConsumerRecord, error: RefusedError, *, at_ms: int) -> DeadLetter:
    """Return the dead letter of a refused record."""
    return letter_of(record, reason=error.reason, detail=str(error), at_ms=at_ms)


def _check_item(item: ItemEngagement) -> None:
    _check_text("item_id", item.item_id, MAX_ID_CHARS)
    _check_counts(item.item_id, item.impressions, item.clicks, item.purchases)
    if not (math.isfinite(item.expected_clicks) and item.expected_clicks >= 0):
        raise RefusedError("wrong_count", f"expected expected_clicks >= 0, got {item.expected_clicks}")


def _check_counts(of: str, *counts: int) -> None:
    if not all(0 <= count < MAX_COUNT for count in counts):
        raise RefusedError("wrong_count", f"expected counts in [0, 2**53), got {counts} for {of[:80]!r}")


def _check_key(key: str, named: str) -> None:
    # Compaction goes by the key: under a wrong one a record could take the place of another's.
    if key != named:
        raise RefusedError("wrong_key", f"expected {named[:80]!r} as key, got {key[:80]!r}")


def _check_text(name: str, text: str, max_chars: int) -> None:
    if not 0 < len(text) <= max_chars:
        raise RefusedError("wrong_key", f"expected a {name} of 1 to {max_chars} characters, got {len(text)}")


def _check_time(name: str, at_ms: int, limits: Limits) -> None:
    if not 0 < at_ms <= limits.now_ms + limits.max_future_ms:
        raise RefusedError(
            "wrong_time",
            f"expected {name} in epoch milliseconds, at most {limits.max_future_ms} ms ahead, got {at_ms}",
        )
