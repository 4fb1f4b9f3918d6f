"""What the sink can't insert: original bytes to the topic of dead letters, a row about it to the table.

A message gives at most one dead letter: all its refused rows together, so that the table's key (topic,
partition, offset) stands for it. Rows keep the headers of a row block, so they can be sent again as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import msgspec
from kafka import KafkaProducer
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from ops.clickhouse.inserting import Inserter, Refusal, RowsRefusedError, TryAgainError
from streams.dead_letters import DeadLetter, letter_of
from streams.rows import RowBlock
from streams.topics import DEAD_LETTERS

UNREADABLE = "row_block_unreadable"
REFUSED = "rows_refused"
SEND_TIMEOUT_S = 30

logger = logging.getLogger(__name__)
_encoder = msgspec.json.Encoder()


class Undelivered(msgspec.Struct, frozen=True):
    """A dead letter and the headers that its bytes need to be sent again."""

    letter: DeadLetter
    block_headers: list[tuple[str, bytes]]


def unreadable(record: ConsumerRecord, error: ValueError, *, at_ms: int) -> Undelivered:
    """Return the dead letter of a message that is no row block."""
    return Undelivered(letter_of(record, reason=UNREADABLE, detail=str(error), at_ms=at_ms), [])


def refused(
    messages: Sequence[tuple[ConsumerRecord, RowBlock]], refusals: Iterable[Refusal], *, at_ms: int
) -> list[Undelivered]:
    """Return one dead letter for each message with refused rows; `refusals` number the messages."""
    by_message: dict[int, list[Refusal]] = {}
    for refusal in refusals:
        by_message.setdefault(refusal.block, []).append(refusal)
    letters = []
    for number, found in by_message.items():
        record, block = messages[number]
        rest = RowBlock(block.table, len(found), b"".join(refusal.lines for refusal in found))
        detail = f"{len(found)} of {block.rows} rows for {block.table}: {found[0].detail}"
        letter = letter_of(record, reason=REFUSED, detail=detail, at_ms=at_ms, value=rest.lines)
        letters.append(Undelivered(letter, rest.headers()))
    return letters


def deliver(letters: Sequence[Undelivered], *, inserter: Inserter, producer: KafkaProducer) -> None:
    """Deliver to ClickHouse and Kafka, each letter at least once. Raises TryAgainError if it can't now."""
    first = letters[0].letter
    rows = _encoder.encode_lines([each.letter.row() for each in letters])
    try:
        inserter.insert("dead_letters", rows, origin=f"{first.topic}:{first.partition}:{first.offset}")
    except RowsRefusedError:
        logger.exception("%d dead letters are on the topic only: the table refuses their rows", len(letters))
    try:
        sent = [
            producer.send(
                DEAD_LETTERS,
                key=each.letter.key,
                value=each.letter.value,
                headers=[*each.block_headers, *each.letter.headers()],
            )
            for each in letters
        ]
        producer.flush(timeout=SEND_TIMEOUT_S)
        for future in sent:
            future.get(timeout=SEND_TIMEOUT_S)
    except KafkaError as error:
        raise TryAgainError(f"Kafka: {len(letters)} dead letters not delivered: {error!r}"[:300]) from error
