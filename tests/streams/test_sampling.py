"""The terms of the priority: ranges, directions, and what a window gives."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.records import EngagementWindow, ItemEngagement
from streams.sampling import (
    Shape,
    candidates,
    contradiction,
    lot,
    novelty,
    tail_weight,
    uncertainty,
)

scores = st.floats(0, 1)
counts = st.integers(0, 10**9)
weights = st.floats(0, 1e9)
SHAPE = Shape(tail_exponent=0.5, coec_prior=1.0, floor=0.05)


@given(counts, counts, st.floats(0, 4))
def test_a_rarer_query_weighs_no_less(one: int, other: int, exponent: float) -> None:
    rare, frequent = sorted((one, other))
    rarer, less_rare = tail_weight(rare, exponent=exponent), tail_weight(frequent, exponent=exponent)
    assert 1 >= rarer >= less_rare > 0


@given(scores, scores)
def test_nearer_the_decision_is_no_less_uncertain(one: float, other: float) -> None:
    near, far = sorted((one, other), key=lambda score: abs(score - 0.5))
    assert uncertainty(near) >= uncertainty(far) - 1e-9
    assert 0 <= uncertainty(far) <= 1
    assert uncertainty(near) == pytest.approx(uncertainty(1 - near), abs=1e-9)


@given(scores, st.integers(0, 1000), st.integers(0, 1000), weights, st.floats(0.01, 100))
def test_more_clicks_than_foretold_contradict_no_less(
    score: float, above: int, more: int, expected: float, prior: float
) -> None:
    clicks = math.ceil(2 * score * expected) + above
    fewer = contradiction(score, clicks=clicks, expected_clicks=expected, prior=prior)
    larger = contradiction(score, clicks=clicks + more, expected_clicks=expected, prior=prior)
    assert 1 >= larger >= fewer - 1e-9 >= -1e-9


@given(scores, weights, weights, st.floats(0.01, 100))
def test_the_longer_nobody_clicks_the_more_a_score_is_contradicted(
    score: float, one: float, other: float, prior: float
) -> None:
    little, much = sorted((one, other))
    assert (
        contradiction(score, clicks=0, expected_clicks=much, prior=prior)
        >= contradiction(score, clicks=0, expected_clicks=little, prior=prior) - 1e-9
    )


@given(scores, st.floats(0.01, 100))
def test_what_nobody_could_click_contradicts_nothing(score: float, prior: float) -> None:
    assert contradiction(score, clicks=0, expected_clicks=0, prior=prior) == pytest.approx(0, abs=1e-9)


def test_without_a_score_all_is_uncertain_and_nothing_contradicted() -> None:
    assert uncertainty(None) == 1
    assert contradiction(None, clicks=9, expected_clicks=1, prior=1) == 0


@given(counts, counts)
def test_a_query_asked_more_often_is_less_new(one: int, other: int) -> None:
    few, many = sorted((one, other))
    assert 1 >= novelty(few) >= novelty(many) > 0


def test_lots_are_even_and_stay() -> None:
    drawn = [lot((f"query {n}", "i"), seed=3) for n in range(20_000)]
    assert drawn == [lot((f"query {n}", "i"), seed=3) for n in range(20_000)]
    assert drawn != [lot((f"query {n}", "i"), seed=4) for n in range(20_000)]
    for tenth in range(10):
        share = sum(tenth / 10 <= number < (tenth + 1) / 10 for number in drawn) / len(drawn)
        # Standard deviation 0.0021.
        assert share == pytest.approx(0.1, abs=0.009)


def test_a_window_gives_its_shown_pairs() -> None:
    window = EngagementWindow(
        query="red  mug",
        window_start_s=0,
        window_s=3600,
        updated_ms=5,
        searches=4,
        items=[
            ItemEngagement("sure", 10, 0, 0, 2.0, 10, 9.0),
            ItemEngagement("unscored", 10, 0, 0, 2.0),
            ItemEngagement("clicked only", 0, 1, 0, 0.0),
        ],
    )
    sure, unscored = candidates(window, SHAPE)
    assert (sure.pair, sure.tail, sure.seen_ms) == (("red mug", "sure"), 0.5, 5)
    assert sure.contradiction == pytest.approx(0.05 + 0.95 * 0.6)
    assert sure.priority(3) == pytest.approx(0.5 * sure.uncertainty * sure.contradiction * 0.5)
    assert (unscored.uncertainty, unscored.contradiction) == (1.0, 0.05)
    assert sure.reasons(3, uniform=True)["uniform"] == 1.0


def test_a_query_of_invisible_characters_gives_nothing() -> None:
    window = EngagementWindow(
        query="\u200b",
        window_start_s=0,
        window_s=1,
        updated_ms=1,
        items=[ItemEngagement("i", 1)],
    )
    assert list(candidates(window, SHAPE)) == []


@given(
    st.lists(st.tuples(scores, st.integers(1, 99), st.integers(0, 99), st.floats(0, 50)), max_size=5), counts
)
def test_every_priority_is_within_its_range(
    items: list[tuple[float, int, int, float]], searches: int
) -> None:
    window = EngagementWindow(
        query="q",
        window_start_s=0,
        window_s=1,
        updated_ms=1,
        searches=searches,
        items=[
            ItemEngagement(str(n), shown, clicks, 0, expected, shown, score * shown)
            for n, (score, shown, clicks, expected) in enumerate(items)
        ],
    )
    found = list(candidates(window, SHAPE))
    assert len(found) == len(items)
    assert all(0 < candidate.priority(n) <= 1 for n, candidate in enumerate(found))
