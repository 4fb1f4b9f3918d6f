"""A part beats as long as something is told, and no longer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ops import heartbeat, pulse
from ops.heartbeat import Heartbeat
from ops.pulse import Pulse


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "BEAT_EVERY_S", 0.01)


def beat_when(run_dir: Path, right: Callable[[Heartbeat], bool]) -> Heartbeat:
    until_s = time.monotonic() + 60
    while True:
        found = heartbeat.read(run_dir, "triton")
        if found and right(found):
            return found
        assert time.monotonic() < until_s, found
        time.sleep(0.005)


def test_it_says_what_was_told_last_and_is_gone_at_the_end(tmp_path: Path) -> None:
    with Pulse(tmp_path, "triton", silent_at_most_s=60) as life:
        first = heartbeat.read(tmp_path, "triton")
        assert first is not None
        assert (first.part, first.pid, first.state) == ("triton", os.getpid(), "starting")
        life.tell("ready", "4 models", {"restarts": 1.0})
        told = beat_when(tmp_path, lambda found: found.state == "ready")
        assert (told.detail, told.counters) == ("4 models", {"restarts": 1.0})
        beat_when(tmp_path, lambda found: found.at_s > told.at_s)
    assert heartbeat.read(tmp_path, "triton") is None


def test_what_tells_nothing_any_more_beats_no_more(tmp_path: Path) -> None:
    with Pulse(tmp_path, "triton", silent_at_most_s=0.0) as life:
        first = heartbeat.read(tmp_path, "triton")
        life.tell("ready", "")
        time.sleep(0.1)
        assert heartbeat.read(tmp_path, "triton") == first
