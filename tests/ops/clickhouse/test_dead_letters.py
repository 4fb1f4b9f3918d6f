"""What becomes of messages and rows that can't be inserted."""

from __future__ import annotations

import base64

from kafka.consumer.fetcher import ConsumerRecord

from ops.clickhouse.dead_letters import refused, unreadable
from ops.clickhouse.inserting import Refusal
from streams.dead_letters import MAX_VALUE_BYTES, from_message
from streams.rows import RowBlock
from streams.rows import from_message as block_from_message


def make_record(
    offset: int, *, value: bytes = b"{}\n", headers: list[tuple[str, bytes]] | None = None
) -> ConsumerRecord:
    return ConsumerRecord(
        "metrics.rows", 2, 0, offset, 0, 0, b"key", value, headers or [], None, 3, len(value), 0
    )


def test_refused_rows_of_one_message_are_one_letter_that_can_be_sent_again() -> None:
    block = RowBlock("clicks", 5, b"")
    messages = [(make_record(10), block), (make_record(11), block)]
    refusals = [Refusal(1, b"one\n", "too odd"), Refusal(1, b"two\n", "also odd")]
    (letter,) = refused(messages, refusals, at_ms=7)
    assert (letter.letter.offset, letter.letter.partition, letter.letter.key) == (11, 2, b"key")
    assert letter.letter.value == b"one\ntwo\n"
    assert letter.letter.detail == "2 of 5 rows for clicks: too odd"
    headers = [*letter.block_headers, *letter.letter.headers()]
    assert from_message(headers, key=b"key", value=letter.letter.value) == letter.letter
    assert block_from_message(headers, letter.letter.value) == RowBlock("clicks", 2, b"one\ntwo\n")


def test_an_unreadable_message_keeps_its_bytes() -> None:
    value = b"\xff\x00 not rows"
    letter = unreadable(make_record(3, value=value), ValueError("expected a header"), at_ms=7).letter
    assert letter.value == value
    assert base64.b64decode(str(letter.row()["payload_base64"])) == value
    assert (letter.reason, letter.detail) == ("row_block_unreadable", "expected a header")


def test_a_value_too_large_for_the_topic_is_cut_and_says_so() -> None:
    value = b"x" * (MAX_VALUE_BYTES + 1)
    letter = unreadable(make_record(3, value=value), ValueError("expected a header"), at_ms=7).letter
    assert letter.value is not None
    assert len(letter.value) == MAX_VALUE_BYTES
    assert letter.detail.startswith(f"(cut to {MAX_VALUE_BYTES} of {MAX_VALUE_BYTES + 1} bytes)")


def test_a_message_that_was_sent_again_is_counted() -> None:
    record = make_record(3, headers=[("resent", b"4")])
    assert unreadable(record, ValueError("no"), at_ms=7).letter.resent == 4
