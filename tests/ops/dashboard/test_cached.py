from __future__ import annotations

import asyncio
import time

import pytest

from ops.dashboard.cached import Cached, Outcome


def test_many_who_ask_at_once_cost_one_computation() -> None:
    computed = 0

    def compute() -> int:
        nonlocal computed
        computed += 1
        time.sleep(0.05)
        return computed

    async def ask() -> list[Outcome[int]]:
        cached = Cached(compute, every_s=60)
        return await asyncio.gather(*(cached.latest(wait_s=5) for _ in range(20)))

    outcomes = asyncio.run(ask())
    assert computed == 1
    assert {outcome.value for outcome in outcomes} == {1}


def test_a_failure_keeps_the_last_value_and_says_why_and_is_forgotten_on_success() -> None:
    answers: list[int | Exception] = [1, RuntimeError("no server\nat all"), 2]

    def compute() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ask() -> list[Outcome[int]]:
        cached = Cached(compute, every_s=0)
        found = []
        while answers:
            # What took long is not asked again at once.
            await asyncio.sleep(0.05)
            before = len(answers)
            outcome = await cached.latest(wait_s=60)
            if len(answers) < before:
                found.append(outcome)
        return found

    first, second, third = asyncio.run(ask())
    assert (first.value, first.error) == (1, "")
    assert (second.value, second.error, second.at_ms) == (1, "no server", first.at_ms)
    assert (third.value, third.error) == (2, "")


def test_a_slow_computation_makes_nobody_wait_longer_than_asked() -> None:
    async def ask() -> float:
        cached = Cached(lambda: time.sleep(0.5), every_s=1)
        started_s = time.monotonic()
        assert (await cached.latest(wait_s=0.05)).value is None
        return time.monotonic() - started_s

    assert asyncio.run(ask()) == pytest.approx(0.05, abs=0.2)
