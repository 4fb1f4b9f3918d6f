"""What the trainer sends beside its versions: rows for ClickHouse and dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kafka import KafkaProducer

from streams.dead_letters import DeadLetter
from streams.rows import to_blocks
from streams.topics import DEAD_LETTERS, METRICS_ROWS

SEND_TIMEOUT_S = 30


def send_rows(producer: KafkaProducer, table: str, rows: Sequence[Any]) -> None:
    """Send rows for a table and wait until the broker has them. Raises KafkaError."""
    _wait_for(
        producer,
        [
            producer.send(METRICS_ROWS, value=block.lines, headers=block.headers())
            for block in to_blocks(table, rows)
        ],
    )


def send_letters(producer: KafkaProducer, letters: Sequence[DeadLetter]) -> None:
    """Send dead letters and their rows and wait until the broker has them. Raises KafkaError."""
    _wait_for(
        producer,
        [
            producer.send(DEAD_LETTERS, key=letter.key, value=letter.value, headers=letter.headers())
            for letter in letters
        ],
    )
    send_rows(producer, "dead_letters", [letter.row() for letter in letters])


def _wait_for(producer: KafkaProducer, sent: Sequence[Any]) -> None:
    producer.flush(timeout=SEND_TIMEOUT_S)
    for future in sent:
        future.get(timeout=SEND_TIMEOUT_S)
