"""The token bucket and the price of a judgement."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.sampling_budget import HOUR_MS, JudgementCost, bucket


@settings(deadline=None)
@given(
    st.floats(2_000, 1e7),
    st.floats(0.01, 0.5),
    st.lists(st.tuples(st.integers(-60_000, HOUR_MS), st.floats(1, 1_000)), max_size=200),
)
def test_no_hour_whatever_costs_more_than_an_hours_tokens(
    per_hour: float, burst_share: float, asked: list[tuple[int, float]]
) -> None:
    tokens = bucket(per_hour, burst_share=burst_share, first_cost=500, now_ms=0)
    now_ms, latest_ms = 0, 0
    spent: list[tuple[int, float]] = []
    for step_ms, cost in asked:
        now_ms += step_ms
        tokens.fill(now_ms)
        latest_ms = max(latest_ms, now_ms)
        if tokens.spend(cost):
            spent.append((latest_ms, cost))
    for begun_ms, _ in spent:
        hour = sum(cost for at_ms, cost in spent if begun_ms <= at_ms < begun_ms + HOUR_MS)
        assert hour <= per_hour * (1 + 1e-9)


def test_what_is_not_there_is_not_spent() -> None:
    tokens = bucket(2_000, burst_share=0.1, first_cost=500, now_ms=0)
    assert tokens.spend(1_000)
    assert not tokens.spend(1)
    tokens.fill(HOUR_MS)
    assert tokens.tokens == 1_000


def test_a_budget_of_less_than_four_judgements_is_refused() -> None:
    with pytest.raises(ValueError, match="at least four judgements of 500 tokens, got 1999"):
        bucket(1_999, burst_share=0.1, first_cost=500, now_ms=0)


def test_the_price_follows_what_is_seen() -> None:
    cost = JudgementCost(500)
    for _ in range(200):
        cost.learn(300)
    assert cost.tokens == pytest.approx(300, abs=0.1)
