"""Skipped events are asked for again, once; what the broker does not have is not waited for."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from streams.continuity import Continuity


def test_events_in_order_are_never_asked_for() -> None:
    continuity = Continuity()
    assert [continuity.missing_before("t", 0, offset) for offset in range(5, 50)] == [None] * 45
    assert continuity.next_of("t", 0) == 50


def test_a_skipped_event_is_asked_for_and_then_processed() -> None:
    continuity = Continuity()
    continuity.expect([("t", 0, 7)])
    assert continuity.missing_before("t", 0, 8) == 7
    assert [continuity.missing_before("t", 0, offset) for offset in (7, 8, 9)] == [None] * 3
    assert continuity.next_of("t", 0) == 10


def test_a_gap_of_the_brokers_own_is_accepted_after_asking_once() -> None:
    continuity = Continuity()
    continuity.missing_before("t", 0, 1)
    assert continuity.missing_before("t", 0, 4) == 2
    assert continuity.missing_before("t", 0, 4) is None
    assert continuity.next_of("t", 0) == 5


def test_replayed_events_do_not_turn_the_clock_back() -> None:
    continuity = Continuity()
    continuity.expect([("t", 0, 100)])
    assert continuity.missing_before("t", 0, 60) is None
    assert continuity.next_of("t", 0) == 100


def test_partitions_and_topics_are_told_apart() -> None:
    continuity = Continuity()
    continuity.expect([("t", 0, 5), ("u", 0, 50)])
    assert continuity.missing_before("t", 1, 900) is None
    assert continuity.missing_before("u", 0, 50) is None
    assert continuity.next_of("t", 0) == 5


@given(skipped=st.sets(st.integers(0, 40), max_size=10), seed=st.integers())
def test_whatever_is_skipped_on_the_way_all_events_are_processed(skipped: set[int], seed: int) -> None:
    rng = random.Random(seed)
    continuity = Continuity()
    continuity.expect([("t", 0, 0)])
    processed, position = set(), 0
    while position <= 41:
        if position in skipped and rng.random() < 0.9:
            skipped.discard(position)
            position += 1
            continue
        back_to = continuity.missing_before("t", 0, position)
        if back_to is None:
            processed.add(position)
            position += 1
        else:
            position = back_to
    assert processed == set(range(42))
