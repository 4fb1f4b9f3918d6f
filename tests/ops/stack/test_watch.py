"""When a part counts as up, dead, hanging or given up."""

from __future__ import annotations

from ops.heartbeat import Heartbeat
from ops.stack.supervision import Process
from ops.stack.watch import FIRST_SIGN, Finding, Watch, is_ready


def process(pid: int, statename: str = "RUNNING") -> Process:
    return Process("shop", statename, pid, 0, 0, 0, "", "")


def sign(pid: int, at_s: float, state: str = "ready") -> Heartbeat:
    return Heartbeat("shop", pid, at_s, state, "", {})


def test_ready_needs_a_heartbeat_of_the_running_process() -> None:
    assert is_ready(process(7), sign(7, 1.0), own_heartbeat=True)
    assert not is_ready(process(8), sign(7, 1.0), own_heartbeat=True)
    assert not is_ready(process(7), sign(7, 1.0, "starting"), own_heartbeat=True)
    assert not is_ready(process(7), None, own_heartbeat=True)
    assert not is_ready(process(0), sign(0, 1.0), own_heartbeat=True)
    assert is_ready(process(8), sign(0, 1.0), own_heartbeat=False)


def test_death_and_return_are_told_once() -> None:
    watch = Watch(stale_after_s=60)
    assert watch.look(process(1), sign(1, 1.0), 1.0) == [Finding.BACK]
    assert watch.look(process(1), sign(1, 2.0), 2.0) == []
    assert watch.look(process(0, "BACKOFF"), sign(1, 2.0), 3.0) == [Finding.DIED]
    assert watch.look(process(2, "STARTING"), sign(1, 2.0), 4.0) == []
    assert watch.look(process(2), sign(2, 5.0), 5.0) == [Finding.BACK]


def test_a_restart_between_two_looks_is_both() -> None:
    watch = Watch(stale_after_s=60)
    watch.look(process(1), sign(1, 1.0), 1.0)
    assert watch.look(process(2), sign(2, 2.0), 2.0) == [Finding.DIED, Finding.BACK]


def test_a_start_that_fails_is_told_once_until_one_succeeds() -> None:
    watch = Watch(stale_after_s=60)
    assert watch.look(process(1), sign(1, 1.0, "starting"), 1.0) == []
    assert watch.look(process(2), sign(1, 1.0, "starting"), 2.0) == [Finding.FAILED]
    assert watch.look(process(3), sign(3, 3.0, "starting"), 3.0) == []
    assert watch.look(process(3), sign(3, 4.0), 4.0) == [Finding.BACK]
    assert watch.look(process(4), sign(4, 5.0, "starting"), 5.0) == [Finding.DIED]
    assert watch.look(process(5), sign(5, 6.0, "starting"), 6.0) == [Finding.FAILED]


def test_a_part_hangs_when_its_heartbeat_stands_still() -> None:
    watch = Watch(stale_after_s=10)
    watch.look(process(1), sign(1, 100.0), 0.0)
    assert watch.look(process(1), sign(1, 100.0), 10.0) == []
    assert watch.look(process(1), sign(1, 100.0), 10.5) == [Finding.HANGS]
    assert watch.look(process(1), sign(1, 100.0), 11.0) == []
    assert watch.look(process(2), sign(2, 200.0), 12.0) == [Finding.BACK]


def test_a_part_that_never_gave_a_sign_hangs_too() -> None:
    watch = Watch(stale_after_s=10)
    assert watch.look(process(1, "STARTING"), None, 0.0) == []
    # Its imports may take longer than what comes after them.
    assert watch.look(process(1), None, 10.0 * FIRST_SIGN) == []
    assert watch.look(process(1), None, 10.0 * FIRST_SIGN + 1) == [Finding.HANGS]


def test_the_sign_of_an_earlier_process_is_none_of_the_next_ones() -> None:
    watch = Watch(stale_after_s=10)
    watch.look(process(1), sign(1, 100.0), 0.0)
    assert watch.look(process(2), sign(1, 100.0), 1.0) == [Finding.DIED]
    assert watch.look(process(2), sign(1, 100.0), 30.0) == []
    assert watch.look(process(2), sign(2, 131.0, "starting"), 31.0) == []
    assert watch.look(process(2), sign(2, 131.0, "starting"), 42.0) == [Finding.HANGS]


def test_a_wall_clock_that_jumps_kills_nobody() -> None:
    watch = Watch(stale_after_s=10)
    watch.look(process(1), sign(1, 100.0), 0.0)
    assert watch.look(process(1), sign(1, -5000.0), 9.0) == []
    assert watch.look(process(1), sign(1, -4999.0), 18.0) == []


def test_a_part_given_up_is_tried_again_with_growing_pauses() -> None:
    watch = Watch(stale_after_s=60)
    assert watch.look(process(0, "FATAL"), None, 0.0) == [Finding.GIVEN_UP]
    assert watch.look(process(0, "FATAL"), None, 4.0) == []
    assert watch.look(process(0, "FATAL"), None, 6.0) == [Finding.RETRY]
    assert watch.look(process(0, "FATAL"), None, 14.0) == []
    assert watch.look(process(0, "FATAL"), None, 22.0) == [Finding.RETRY]
    assert watch.look(process(3), sign(3, 1.0), 23.0) == [Finding.BACK]
    assert watch.look(process(0, "FATAL"), None, 24.0) == [Finding.DIED, Finding.GIVEN_UP]
