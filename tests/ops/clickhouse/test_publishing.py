"""Sending rows to the stack; the real broker stands in the integration tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from kafka import KafkaProducer
from kafka.errors import KafkaTimeoutError

from ops.clickhouse.publishing import BrokerSilentError, connected, publish
from ops.endpoints import NotRunningError
from ops.settings import Settings
from ops.stack.ports import free_port
from streams.rows import from_message
from streams.topics import METRICS_ROWS


class Delivery:
    """What a producer gives for a message."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def get(self, timeout: float) -> None:
        if self._error is not None:
            raise self._error


class Recorder:
    """A producer that keeps what it is given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.sent: list[tuple[str, bytes, Any]] = []
        self._error = error

    def send(self, topic: str, *, value: bytes, headers: Any) -> Delivery:
        self.sent.append((topic, value, headers))
        return Delivery(self._error)

    def flush(self, timeout: float) -> None:
        assert timeout > 0


def test_rows_go_out_as_blocks_that_the_sink_reads() -> None:
    recorder = Recorder()
    rows = [{"query": "x" * 1000, "n": n} for n in range(2000)]
    assert publish(cast(KafkaProducer, recorder), "judgements", rows) == 2000
    blocks = [from_message(headers, value) for _, value, headers in recorder.sent]
    assert {topic for topic, _, _ in recorder.sent} == {METRICS_ROWS}
    assert len(blocks) > 1
    assert {block.table for block in blocks} == {"judgements"}
    assert sum(block.rows for block in blocks) == 2000


def test_nothing_to_send_sends_nothing() -> None:
    recorder = Recorder()
    assert publish(cast(KafkaProducer, recorder), "judgements", []) == 0
    assert recorder.sent == []


def test_a_broker_that_does_not_take_the_rows_is_an_error() -> None:
    with pytest.raises(KafkaTimeoutError):
        publish(cast(KafkaProducer, Recorder(KafkaTimeoutError())), "judgements", [{"n": 1}])


def test_without_a_stack_it_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match="relevance up"), connected(Settings(run_dir=tmp_path)):
        pass


def test_a_silent_broker_is_named(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    settings = Settings(run_dir=tmp_path, kafka=address)
    with pytest.raises(BrokerSilentError, match=f"no Kafka answers at {address}"), connected(settings):
        pass
