"""What the repository's steps are announced by while Triton is watched."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ops.clickhouse.publishing import BrokerSilentError
from ops.serving import announcing
from ops.serving.announcing import Announcer
from ops.settings import Settings
from students.publishing.ledger import Ledger
from tests.students.publishing.test_ledger import step

PATIENCE_S = 60.0


class Kafka:
    """Takes steps, unless it is away; `open` lets an attempt go on."""

    def __init__(self) -> None:
        self.away = False
        self.open = threading.Event()
        self.open.set()
        self.attempts = 0

    def announce(self, settings: Settings, ledger: Ledger) -> int:
        self.attempts += 1
        assert self.open.wait(PATIENCE_S)
        if self.away:
            raise BrokerSilentError("no Kafka answers\nat all")
        return ledger.send(lambda steps: None)


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    found = Kafka()
    monkeypatch.setattr(announcing, "announce", found.announce)
    return found


def test_what_waits_is_sent_and_nothing_else(tmp_path: Path, kafka: Kafka) -> None:
    ledger = Ledger(tmp_path)
    announcer = Announcer(Settings(), ledger, say=print)
    announcer.look()
    assert kafka.attempts == 0
    ledger.append(step(1))
    announcer.look()
    announcer.finish(within_s=PATIENCE_S)
    announcer.look()
    assert kafka.attempts == 1
    assert ledger.waiting() == []


def test_a_kafka_that_is_away_is_told_once_and_tried_again(tmp_path: Path, kafka: Kafka) -> None:
    said: list[str] = []
    ledger = Ledger(tmp_path)
    ledger.append(step(1))
    announcer = Announcer(Settings(), ledger, say=said.append)
    kafka.away = True
    for _ in range(2):
        announcer.look()
        announcer.finish(within_s=PATIENCE_S)
    assert said == ["steps are not announced yet, it is tried again: no Kafka answers"]
    kafka.away = False
    announcer.look()
    announcer.finish(within_s=PATIENCE_S)
    assert kafka.attempts == 3
    assert ledger.waiting() == []


def test_looking_waits_for_nobody(tmp_path: Path, kafka: Kafka) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(step(1))
    kafka.open.clear()
    announcer = Announcer(Settings(), ledger, say=print)
    announcer.look()
    announcer.look()
    assert ledger.waiting() == [step(1)]
    kafka.open.set()
    announcer.finish(within_s=PATIENCE_S)
    assert kafka.attempts == 1
