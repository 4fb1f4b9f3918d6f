from __future__ import annotations

from typing import Any, cast

from kafka import KafkaProducer
from kafka.errors import KafkaTimeoutError

from ops.shop.outbox import Outbox, in_order
from ops.shop.traffic import Record


def record(due_ms: int, kind: str = "click") -> Record:
    value = {"query_attributes": {"fallback": True}} if kind == "search" else {"n": due_ms}
    return Record(due_ms, "ubi.events", "q", kind, value)


class Sent:
    """What the producer promises about a record; it is settled at once."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def add_callback(self, function: Any, *arguments: Any) -> None:
        if self.error is None:
            function(*arguments, None)

    def add_errback(self, function: Any, *arguments: Any) -> None:
        if self.error is not None:
            function(*arguments, self.error)


class Broker:
    """A producer whose broker may be full, or lose what it takes."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.full = False
        self.error: Exception | None = None

    def send(self, topic: str, *, key: bytes, value: bytes) -> Sent:
        if self.full:
            raise KafkaTimeoutError("buffer full")
        self.taken.append(value)
        return Sent(self.error)

    def flush(self, *, timeout: float) -> None:
        assert timeout > 0


def outbox_to(broker: Broker) -> Outbox:
    return Outbox(cast(KafkaProducer, broker))


def test_records_wait_for_their_time_and_are_counted() -> None:
    broker = Broker()
    outbox = outbox_to(broker)
    outbox.put([record(30, "purchase"), record(10, "search"), record(20)])
    assert outbox.send_due(20)
    assert broker.taken == [b'{"query_attributes":{"fallback":true}}', b'{"n":20}']
    assert len(outbox) == 1
    counters = outbox.counters()
    assert (counters["searches"], counters["clicks"], counters["purchases"]) == (1, 1, 0)
    assert (counters["fallback"], counters["sent"], counters["resent"]) == (1, 2, 0)


def test_a_full_broker_is_tried_again_without_loss() -> None:
    broker = Broker()
    outbox = outbox_to(broker)
    outbox.put([record(1), record(2)])
    broker.full = True
    assert not outbox.send_due(5)
    assert len(outbox) == 2
    broker.full = False
    assert outbox.send_due(5)
    assert broker.taken == [b'{"n":1}', b'{"n":2}']


def test_what_the_broker_refuses_is_sent_again() -> None:
    broker = Broker()
    outbox = outbox_to(broker)
    outbox.put([record(1), record(9)])
    broker.error = KafkaTimeoutError("gone")
    assert outbox.send_due(1)
    assert outbox.counters()["sent"] == 0
    broker.error = None
    assert not outbox.send_due(2)
    assert outbox.send_due(2)
    assert broker.taken == [b'{"n":1}', b'{"n":1}']
    counters = outbox.counters()
    assert (counters["sent"], counters["resent"], counters["clicks"]) == (1, 1, 1)


def test_delivery_says_how_much_is_missing_and_leaves_the_future_alone() -> None:
    broker = Broker()
    outbox = outbox_to(broker)
    outbox.put([record(1), record(2), record(9)])
    broker.error = KafkaTimeoutError("gone")
    assert outbox.deliver(5, timeout_s=0.05) == 2
    broker.error = None
    assert outbox.deliver(5, timeout_s=1) == 0
    assert outbox.counters()["sent"] == 2
    assert len(outbox) == 1


def test_searches_that_overlap_are_merged_by_time() -> None:
    merged = in_order([[record(1), record(9)], [record(2), record(3)], [], [record(4)]])
    assert [each.due_ms for each in merged] == [1, 2, 3, 4, 9]
