"""Steps to the topic `relevance.students`, for who routes by them, and to ClickHouse, for who looks back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ops.clickhouse.publishing import SEND_TIMEOUT_S, connected, publish
from ops.settings import Settings
from streams.records import StudentStep
from streams.topics import STUDENTS
from students.publishing.ledger import Ledger
from students.version_folder import student_version

TABLE = "student_versions"


def announce(settings: Settings, ledger: Ledger) -> int:
    """Send the steps that were not sent yet and return how many they were.

    Raises NotRunningError, BrokerSilentError or KafkaError; then the next call sends them.
    """

    def send(steps: Sequence[StudentStep]) -> None:
        with connected(settings) as producer:
            sent = [
                producer.send(STUDENTS, key=step.kind.encode(), value=msgspec.json.encode(step))
                for step in steps
            ]
            producer.flush(timeout=SEND_TIMEOUT_S)
            for future in sent:
                future.get(timeout=SEND_TIMEOUT_S)
            publish(producer, TABLE, [row_of(step) for step in steps])

    return ledger.send(send)


def row_of(step: StudentStep) -> dict[str, Any]:
    """Return a step as a row of ClickHouse's table `student_versions`."""
    return {
        "student_version": student_version(step.kind, step.version),
        "parent_version": student_version(step.kind, step.parent) if step.parent else "",
        "kind": step.kind,
        "step": step.step,
        "step_id": step.step_id,
        "decision": step.decision,
        "champion": step.champion,
        "challenger": step.challenger,
        "previous": step.previous,
        "pinned": step.pinned,
        "gate": msgspec.json.encode(step.gate).decode(),
        "offsets": msgspec.json.encode(step.offsets).decode(),
        "event_time": step.at_ms,
        "version": 1,
    }
