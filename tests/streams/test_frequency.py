"""Query frequency: bounded counting and the cut into head, torso and tail."""

from __future__ import annotations

import random
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.frequency import QueryFrequency
from streams.records import TrafficClass


def counter(**changes: float) -> QueryFrequency:
    options = {"head_share": 0.5, "torso_share": 0.3, "window_s": 3600.0, "now_s": 0.0} | changes
    return QueryFrequency(**options)


def test_zipf_traffic_is_cut_near_the_shares_asked_for() -> None:
    rng = random.Random(3)
    weights = list(accumulate(1 / rank for rank in range(1, 5001)))
    traffic = [f"query {n}" for n in rng.choices(range(5000), cum_weights=weights, k=40_000)]
    frequency = counter()
    for query in traffic:
        frequency.count(query, now_s=1.0)
    classes = [frequency.classify(query) for query in traffic]
    share = {kind: classes.count(kind) / len(classes) for kind in TrafficClass}
    assert share[TrafficClass.HEAD] == pytest.approx(0.5, abs=0.05)
    assert share[TrafficClass.TORSO] == pytest.approx(0.3, abs=0.05)
    assert share[TrafficClass.TAIL] == pytest.approx(0.2, abs=0.05)


def test_nothing_is_head_while_all_queries_are_equally_rare() -> None:
    frequency = counter()
    assert {frequency.count(f"query {n}", now_s=0.0) for n in range(300)} == {TrafficClass.TAIL}


def test_old_fashions_are_forgotten_after_two_windows() -> None:
    frequency = counter()
    for _ in range(100):
        frequency.count("fidget spinner", now_s=10.0)
    frequency.count("new", now_s=3700.0)
    assert frequency.estimate("fidget spinner") == 100
    frequency.count("new", now_s=7400.0)
    assert frequency.estimate("fidget spinner") == 0


def test_a_snapshot_brings_all_counts_back() -> None:
    frequency = counter()
    for n in range(2000):
        frequency.count(f"query {n % 50}", now_s=0.0)
    restored = counter()
    restored.restore(frequency.snapshot())
    assert restored.estimate("query 7") == 40
    assert restored.total() == 2000


@pytest.mark.parametrize("damaged", [b"", b"\xc1", b"junk", b"\x93\x00\xc4\x01a\xc4\x01b"])
def test_a_damaged_snapshot_is_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match="not a snapshot"):
        counter().restore(damaged)


def test_memory_stays_bounded_over_many_distinct_queries() -> None:
    frequency = counter()
    for n in range(60_000):
        frequency.count(f"distinct {n}", now_s=0.0)
    assert len(frequency.snapshot()) < 700_000


@given(queries=st.lists(st.text(max_size=20), max_size=60))
def test_any_text_can_be_counted(queries: list[str]) -> None:
    frequency = counter()
    for query in queries:
        frequency.count(query, now_s=0.0)
    assert frequency.total() == len(queries)
    assert all(frequency.estimate(query) == queries.count(query) for query in queries)
