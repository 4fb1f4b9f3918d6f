"""The order and the time of stopping, against a supervisor that only pretends."""

from __future__ import annotations

import time
from typing import cast

import pytest

from ops.settings import Settings, Stack
from ops.stack import plan
from ops.stack.stopping import stop_parts
from ops.stack.supervision import Process, Supervisor


class Pretender:
    """Parts end as soon as they are asked, except those that are `stubborn`, which end when killed."""

    def __init__(self, parts: list[plan.Part], *stubborn: str) -> None:
        self.running = {part.name for part in parts}
        self.stubborn = stubborn
        self.calls: list[str] = []
        self.names = [part.name for part in parts]

    def processes(self) -> dict[str, Process]:
        return {
            name: Process(name, "RUNNING" if name in self.running else "STOPPED", 1, 0, 0, 0, "", "")
            for name in self.names
        }

    def stop(self, name: str) -> None:
        self.calls.append(f"stop {name}")
        if name not in self.stubborn:
            self.running.discard(name)

    def kill(self, name: str) -> None:
        self.calls.append(f"kill {name}")
        self.running.discard(name)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "STAGE_ALONE_S", 0.05)
    monkeypatch.setattr(plan, "BROKER_STOPS_WITHIN_S", 0.3)


def stopped(parts: list[plan.Part], pretender: Pretender, within_s: float) -> list[str]:
    return stop_parts(cast(Supervisor, pretender), parts, deadline_s=time.monotonic() + within_s)


def test_parts_stop_in_reverse_order_the_broker_last(fast: None) -> None:
    parts = plan.parts(Settings(stack=Stack(workers=2)))
    pretender = Pretender(parts)
    assert stopped(parts, pretender, 5.0) == []
    names = ("features", "shop", "metrics", "streams-1", "streams-2", "broker")
    assert pretender.calls == [f"stop {n}" for n in names]


def test_a_part_that_lingers_is_killed_before_the_broker_is_asked(fast: None) -> None:
    parts = plan.parts(Settings())
    pretender = Pretender(parts, "metrics")
    assert stopped(parts, pretender, 0.8) == []
    asked = ["stop features", "stop shop", "stop metrics", "stop streams-1"]
    assert pretender.calls == [*asked, "kill metrics", "stop broker"]


def test_a_broker_that_lingers_is_told(fast: None) -> None:
    parts = plan.parts(Settings())
    began_s = time.monotonic()
    assert stopped(parts, Pretender(parts, "broker"), 0.5) == ["broker"]
    assert time.monotonic() - began_s < 1.0


def test_nothing_is_asked_of_a_broker_elsewhere(fast: None) -> None:
    parts = plan.parts(Settings(kafka="kafka-1:9092"), shop=False)
    pretender = Pretender(parts)
    assert stopped(parts, pretender, 1.0) == []
    assert pretender.calls == ["stop features", "stop metrics", "stop streams-1"]
