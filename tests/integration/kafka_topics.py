"""What tests on a real broker share: reading a topic whole, waiting, and a group that has done everything so far."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from ops.kafka import consumer
from ops.settings import Settings


def until(condition: Callable[[], bool], *, within_s: float = 180) -> None:
    """Return once the condition holds."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.05)


def read_all(bootstrap: str, topic: str) -> list[Any]:
    """Return every record of a topic."""
    reading = consumer(Settings(), bootstrap, topic, consumer_timeout_ms=2000)
    try:
        return list(reading)
    finally:
        reading.close()


def commit_to_the_end(bootstrap: str, topic: str, *, group: str) -> None:
    """Do as a group that has finished all that is on a topic."""
    reading = consumer(Settings(), bootstrap, group_id=group)
    partitions = [TopicPartition(topic, number) for number in reading.partitions_for_topic(topic) or ()]
    ends = reading.end_offsets(partitions)
    reading.assign(partitions)
    reading.commit({partition: OffsetAndMetadata(end) for partition, end in ends.items()})
    reading.close()
