"""Rows for ClickHouse by way of Kafka, for programs beside the stack: the sink inserts them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kafka import KafkaProducer

from ops import endpoints
from ops.kafka import ensure_topics, producer
from ops.settings import Settings
from ops.stack.broker_probe import failure
from streams.dead_letters import DeadLetter
from streams.rows import to_blocks
from streams.topics import DEAD_LETTERS, METRICS_ROWS, TOPICS

SEND_TIMEOUT_S = 60.0


class BrokerSilentError(ConnectionError):
    """No broker answers where one should."""


@contextmanager
def connected(settings: Settings) -> Iterator[KafkaProducer]:
    """Yield a producer on the stack's broker, or the one that `settings.kafka` names.

    Raises NotRunningError if there is no address, BrokerSilentError if nobody answers there.
    """
    bootstrap = endpoints.kafka_address(settings)
    if reason := failure(settings, bootstrap):
        raise BrokerSilentError(
            f"no Kafka answers at {bootstrap}: {reason}; is the stack up (`relevance status`)?"
        )
    ensure_topics(settings, bootstrap, TOPICS)
    client = producer(settings, bootstrap)
    try:
        yield client
    finally:
        client.close(timeout=5)


def publish(client: KafkaProducer, table: str, rows: Sequence[Any]) -> int:
    """Send rows for a table, return how many once the broker has them all. Raises KafkaError if it won't."""
    sent = [
        client.send(METRICS_ROWS, value=block.lines, headers=block.headers())
        for block in to_blocks(table, rows)
    ]
    client.flush(timeout=SEND_TIMEOUT_S)
    for future in sent:
        future.get(timeout=SEND_TIMEOUT_S)
    return len(rows)


def publish_dead_letters(client: KafkaProducer, letters: Sequence[DeadLetter]) -> None:
    """Send dead letters to their topic and their rows to the store; return once the broker has all. Raises
    KafkaError if it won't."""
    sent = [
        client.send(DEAD_LETTERS, key=letter.key, value=letter.value, headers=letter.headers())
        for letter in letters
    ]
    publish(client, "dead_letters", [letter.row() for letter in letters])
    for future in sent:
        future.get(timeout=SEND_TIMEOUT_S)
