"""The line of candidates: its order, its ties, its bound."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.sampling import Candidate, lot
from streams.sampling_pool import RankedPairs


def candidate(name: str, *, tail: float = 1.0) -> Candidate:
    return Candidate(query=name, item_id="i", tail=tail, uncertainty=1.0, contradiction=1.0, seen_ms=0)


def rank(of: Candidate) -> float:
    return -of.tail


def in_line(held: RankedPairs) -> list[str]:
    found = []
    while (one := held.pop(rank)) is not None:
        found.append(one.query)
    return found


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from([0.2, 0.5, 1.0])), max_size=80))
def test_the_latest_of_each_pair_comes_in_order_whatever_the_arrival(
    arrivals: list[tuple[int, float]],
) -> None:
    held = RankedPairs(1000)
    latest: dict[str, float] = {}
    for number, tail in arrivals:
        name = f"q{number}"
        latest[name] = tail
        held.add(candidate(name, tail=tail), rank=-tail, tie=lot((name, "i"), seed=1))
    assert len(held) == len(latest)
    assert in_line(held) == sorted(latest, key=lambda name: (-latest[name], lot((name, "i"), seed=1)))


def test_ties_depend_on_the_seed_alone() -> None:
    def line(seed: int, order: int) -> list[str]:
        names = [f"q{number}" for number in range(50)]
        random.Random(order).shuffle(names)
        held = RankedPairs(1000)
        for name in names:
            held.add(candidate(name), rank=-1.0, tie=lot((name, "i"), seed=seed))
        return in_line(held)

    assert line(1, 1) == line(1, 2) != line(2, 1)


def test_a_pair_that_has_become_worse_goes_back_in_line() -> None:
    held = RankedPairs(1000)
    for name, tail in (("first", 1.0), ("second", 0.5)):
        held.add(candidate(name, tail=tail), rank=-tail, tie=0.0)
    now = {"first": -0.1, "second": -0.5}
    order = [held.pop(lambda one: now[one.query]) for _ in range(3)]
    assert [one.query if one else None for one in order] == ["second", "first", None]


def test_only_the_best_are_held() -> None:
    held = RankedPairs(1000)
    for number in range(5000):
        tail = (number * 7919 % 5000) / 5000
        held.add(candidate(f"q{number}", tail=tail), rank=-tail, tie=0.0)
        assert len(held) <= 1000
    kept = len(held)
    assert held.let_go == 5000 - kept
    best = {f"q{number}" for number in range(5000) if number * 7919 % 5000 >= 4100}
    assert best <= set(in_line(held))


def test_saying_the_same_again_takes_no_memory() -> None:
    held = RankedPairs(1000)
    for round_ in range(10_000):
        held.add(candidate("q", tail=1 + round_ % 2), rank=-1.0 - round_ % 2, tie=0.0)
    assert len(held) == 1
    assert len(held._heap) < 2000
