"""Whatever stands in a record, it is taken or refused with a reason."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from kafka.consumer.fetcher import ConsumerRecord

from feature_store.intake import (
    Limits,
    RefusedError,
    catalogue_row,
    dead_letter,
    engagement_window,
    judged_pair,
    query_statistics_row,
    shopper_history_row,
    student_step,
)
from feature_store.judged import JudgedPair
from streams.topics import (
    CATALOGUE_ITEMS,
    ENGAGEMENT_WINDOWS,
    JUDGEMENTS,
    QUERIES_STATISTICS,
    SHOPPERS_HISTORY,
    STUDENTS,
)
from tests.feature_store.samples import NOW_MS, step, window

LIMITS = Limits(now_ms=NOW_MS, max_future_ms=1000)


def _record(
    topic: str, value: bytes | None, key: bytes | None = b"i1", timestamp: int = NOW_MS
) -> ConsumerRecord:
    named: dict[str, Any] = dict.fromkeys(ConsumerRecord._fields)
    return ConsumerRecord(
        **named
        | {"topic": topic, "partition": 0, "offset": 7, "key": key, "value": value, "headers": []}
        | {"timestamp": timestamp}
    )


def _item(**fields: Any) -> bytes:
    return msgspec.json.encode({"item_id": "i1", "title": "Nova mug", "updated_ms": NOW_MS} | fields)


@examples(deadline=None)
@given(value=st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(value: bytes) -> None:
    for take, topic in (
        (engagement_window, ENGAGEMENT_WINDOWS),
        (catalogue_row, CATALOGUE_ITEMS),
        (query_statistics_row, QUERIES_STATISTICS),
        (shopper_history_row, SHOPPERS_HISTORY),
        (student_step, STUDENTS),
    ):
        record = _record(topic, value, key=value)
        try:
            take(record, LIMITS)
        except RefusedError as error:
            letter = dead_letter(record, error, at_ms=NOW_MS)
            assert (letter.topic, letter.offset, letter.value, letter.reason) == (
                topic,
                7,
                value,
                error.reason,
            )


def test_a_sound_window_is_taken() -> None:
    sound = window("mug", ("a", 3, 1))
    assert engagement_window(_record(ENGAGEMENT_WINDOWS, msgspec.json.encode(sound)), LIMITS) == sound


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (window("", ("a", 1, 0)), "wrong_key"),
        (window("mug", ("", 1, 0)), "wrong_key"),
        (window("mug", ("a" * 300, 1, 0)), "wrong_key"),
        (window("mug", ("a", -1, 0)), "wrong_count"),
        (window("mug", ("a", 1 << 60, 0)), "wrong_count"),
        (window("mug", ("a", 1, 0), updated_ms=NOW_MS + 1001), "wrong_time"),
        (window("mug", ("a", 1, 0), updated_ms=0), "wrong_time"),
        (window("mug", ("a", 1, 0), start_s=-1), "wrong_window"),
    ],
)
def test_a_window_that_cannot_be_stored_is_refused(bad: Any, reason: str) -> None:
    with pytest.raises(RefusedError) as refused:
        engagement_window(_record(ENGAGEMENT_WINDOWS, msgspec.json.encode(bad)), LIMITS)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("value", "key", "reason"),
    [
        (b"{", b"i1", "not_a_catalogue_item"),
        (_item(title=3), b"i1", "not_a_catalogue_item"),
        (b'{"item_id":"i1","title":"\\ud800","updated_ms":1}', b"i1", "not_a_catalogue_item"),
        (_item(), b"i2", "wrong_key"),
        (_item(), None, "wrong_key"),
        (_item(), b"\xff", "not_a_catalogue_item"),
        (_item(updated_ms=NOW_MS + 5000), b"i1", "wrong_time"),
    ],
)
def test_an_item_that_cannot_be_stored_is_refused(value: bytes, key: bytes | None, reason: str) -> None:
    with pytest.raises(RefusedError) as refused:
        catalogue_row(_record(CATALOGUE_ITEMS, value, key=key), LIMITS)
    assert refused.value.reason == reason


def test_a_record_without_a_value_takes_the_item_out() -> None:
    row = catalogue_row(_record(CATALOGUE_ITEMS, None, timestamp=NOW_MS - 5), LIMITS)
    assert (row.key, row.values["listed"], row.event_us) == (("i1",), False, (NOW_MS - 5) * 1000)


def _statistics(**fields: Any) -> bytes:
    sound = {"query": "i1", "frequency": 3, "traffic_class": "head", "teacher_coverage": 0.5}
    return msgspec.json.encode(sound | {"known_ms": NOW_MS} | fields)


def _history(**fields: Any) -> bytes:
    sound = {"client_id": "i1", "impressions": 9, "clicks": 2, "conversions": 0, "known_ms": NOW_MS}
    return msgspec.json.encode(sound | fields)


def test_statements_become_rows_as_of_the_moment_they_were_known() -> None:
    row = query_statistics_row(_record(QUERIES_STATISTICS, _statistics()), LIMITS)
    assert (row.key, row.event_us) == (("i1",), NOW_MS * 1000)
    assert row.values == {"frequency": 3, "traffic_class": "head", "teacher_coverage": 0.5}
    segments = {}
    for clicks, conversions in ((0, 0), (2, 0), (2, 1)):
        value = _history(clicks=clicks, conversions=conversions)
        row = shopper_history_row(_record(SHOPPERS_HISTORY, value), LIMITS)
        assert (row.key, row.event_us) == (("i1",), NOW_MS * 1000)
        assert (row.values["history_impressions"], row.values["history_clicks"]) == (9, clicks)
        segments[clicks, conversions] = row.values["segment"]
    assert segments == {(0, 0): "browser", (2, 0): "clicker", (2, 1): "buyer"}


@pytest.mark.parametrize(
    ("topic", "value", "key", "reason"),
    [
        (QUERIES_STATISTICS, _statistics(frequency="x"), b"i1", "not_query_statistics"),
        (QUERIES_STATISTICS, None, b"i1", "not_query_statistics"),
        (QUERIES_STATISTICS, _statistics(), b"i2", "wrong_key"),
        (QUERIES_STATISTICS, _statistics(), None, "wrong_key"),
        (QUERIES_STATISTICS, _statistics(query=""), b"", "wrong_key"),
        (QUERIES_STATISTICS, _statistics(frequency=-1), b"i1", "wrong_count"),
        (QUERIES_STATISTICS, _statistics(traffic_class="heads"), b"i1", "wrong_class"),
        (QUERIES_STATISTICS, _statistics(teacher_coverage=1.01), b"i1", "wrong_share"),
        (QUERIES_STATISTICS, _statistics(known_ms=NOW_MS + 5000), b"i1", "wrong_time"),
        (SHOPPERS_HISTORY, b"{", b"i1", "not_a_shopper_history"),
        (SHOPPERS_HISTORY, _history(), b"\xff", "not_a_shopper_history"),
        (SHOPPERS_HISTORY, _history(client_id="x" * 300), b"i1", "wrong_key"),
        (SHOPPERS_HISTORY, _history(), b"i2", "wrong_key"),
        (SHOPPERS_HISTORY, _history(clicks=1 << 60), b"i1", "wrong_count"),
        (SHOPPERS_HISTORY, _history(known_ms=0), b"i1", "wrong_time"),
    ],
)
def test_a_statement_that_cannot_be_stored_is_refused(
    topic: str, value: bytes | None, key: bytes | None, reason: str
) -> None:
    take = query_statistics_row if topic == QUERIES_STATISTICS else shopper_history_row
    with pytest.raises(RefusedError) as refused:
        take(_record(topic, value, key=key), LIMITS)
    assert refused.value.reason == reason


@examples(deadline=None)
@given(value=st.binary(max_size=200))
def test_any_bytes_are_a_judgement_or_refused(value: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        judged_pair(_record(JUDGEMENTS, value))
    assert refused.value.reason in ("not_a_judgement", "wrong_key")


def test_of_a_judgement_the_pair_and_its_text_are_kept() -> None:
    value = b'{"query":"mug","item_id":"i1","content_hash":"h","grade":"E","chain_of_thought":"..."}'
    assert judged_pair(_record(JUDGEMENTS, value)) == JudgedPair("mug", "i1", "h")
    for bad in (b'{"query":"","item_id":"i1","content_hash":"h"}', b'{"query":"mug","item_id":"i1"}', None):
        with pytest.raises(RefusedError):
            judged_pair(_record(JUDGEMENTS, bad))


def _step(**fields: Any) -> bytes:
    return msgspec.json.encode(msgspec.to_builtins(step("representation", version=3)) | fields)


def test_a_step_of_a_student_is_taken() -> None:
    record = _record(STUDENTS, _step(), key=b"representation")
    assert student_step(record, LIMITS) == step("representation", version=3)


@pytest.mark.parametrize(
    ("value", "key", "reason"),
    [
        (None, b"representation", "not_a_student_step"),
        (b"{", b"representation", "not_a_student_step"),
        (_step(version="3"), b"representation", "not_a_student_step"),
        (_step(), b"interaction", "wrong_key"),
        (_step(), b"\xff", "not_a_student_step"),
        (_step(champion=-1), b"representation", "wrong_count"),
        (_step(version=1 << 60), b"representation", "wrong_count"),
        (_step(at_ms=NOW_MS + 5000), b"representation", "wrong_time"),
    ],
)
def test_a_step_that_is_none_is_refused(value: bytes | None, key: bytes, reason: str) -> None:
    with pytest.raises(RefusedError) as refused:
        student_step(_record(STUDENTS, value, key=key), LIMITS)
    assert refused.value.reason == reason
