"""The correction by engagement: bounded, monotone, and blind to popularity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from students.engagement_correction import MAX_WEIGHT, EngagementCorrection, Floats, fit

STRONGEST = EngagementCorrection(weight=MAX_WEIGHT, prior=0.25)
scores = st.floats(0, 1)
counts = st.floats(0, 1e9)


def _corrected(score: float, clicks: float, expected: float, of: EngagementCorrection = STRONGEST) -> float:
    return float(of.apply(np.array([score]), np.array([clicks]), np.array([expected]))[0])


def test_popular_but_irrelevant_does_not_become_relevant() -> None:
    # Shown a million times and clicked as often as anything at these positions: nothing moves.
    assert _corrected(0.03, 50_000, 50_000) == 0.03
    # Clicked far beyond expectation: still far from relevant, and below a relevant item that nobody clicks.
    clickbait, unloved = _corrected(0.03, 1e6, 10), _corrected(0.6, 0, 1e6)
    assert clickbait < 0.06
    assert clickbait < unloved
    assert unloved > 0.4


@given(score=scores, clicks=counts, expected=counts)
def test_the_odds_move_by_a_factor_of_two_at_most(score: float, clicks: float, expected: float) -> None:
    found = _corrected(score, clicks, expected)
    assert score / (2 - score) - 1e-5 <= found <= 2 * score / (1 + score) + 1e-5


@given(score=scores, shown=counts)
def test_what_is_clicked_as_expected_stays_as_it_is(score: float, shown: float) -> None:
    assert _corrected(score, shown, shown) == score


@given(score=scores, less=counts, more=counts, expected=counts)
def test_more_clicks_never_lower_and_more_expectation_never_raises(
    score: float, less: float, more: float, expected: float
) -> None:
    less, more = sorted((less, more))
    assert _corrected(score, less, expected) <= _corrected(score, more, expected) + 1e-12
    assert _corrected(score, expected, more) <= _corrected(score, expected, less) + 1e-12


def _world(
    rng: np.random.Generator, *, telling: float
) -> tuple[Floats, Floats, Floats, Floats, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Pairs of 200 queries. Irrelevant ones are the popular ones: shown a hundred times as often. With `telling` 0
    clicks are as expected whatever the gain; else relevant pairs are clicked so much more often."""
    gain = (rng.random(4000) < 0.3).astype(np.float64)
    score = np.clip(0.3 + 0.25 * gain + rng.normal(0, 0.15, 4000), 0, 1)
    expected = np.where(gain > 0, 1.0, 100.0) * rng.random(4000)
    clicks = rng.poisson(expected * np.exp(telling * (gain - 0.3))).astype(np.float64)
    return score, clicks, expected, gain, rng.integers(0, 200, 4000)


def test_popularity_alone_teaches_nothing() -> None:
    score, clicks, expected, gain, query = _world(np.random.default_rng(1), telling=0)
    found = fit(score, clicks, expected, gain, query, np.random.default_rng(2))
    corrected = found.apply(score, clicks, expected)
    popular = (gain == 0) & (expected > 20)
    assert popular.sum() > 1000
    assert abs(float((corrected - score)[popular].mean())) < 0.01
    assert found.weight < 0.1


def test_clicks_that_tell_are_used_and_help_on_other_queries() -> None:
    rng = np.random.default_rng(3)
    found = fit(*_world(rng, telling=1.5), np.random.default_rng(4))
    assert found.weight > 0.1
    score, clicks, expected, gain, _ = _world(rng, telling=1.5)
    corrected = found.apply(score, clicks, expected)
    before, after = (
        float(-np.mean(gain * np.log(p) + (1 - gain) * np.log(1 - p)))
        for p in (np.clip(score, 1e-6, 1 - 1e-6), np.clip(corrected, 1e-6, 1 - 1e-6))
    )
    assert after < before - 0.01


def test_clicks_that_contradict_people_are_not_believed() -> None:
    found = fit(*_world(np.random.default_rng(5), telling=-1.5), np.random.default_rng(6))
    assert found.weight == 0
    assert _corrected(0.4, 100, 1, found) == 0.4


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [(0, 1.5, "score in"), (0, np.nan, "score in"), (1, -1, "clicks >= 0"), (2, np.inf, "expected clicks")],
)
def test_nonsense_is_refused(column: int, value: float, words: str) -> None:
    columns = [np.array([0.5, 0.5]), np.array([1.0, 1.0]), np.array([1.0, 1.0])]
    columns[column][1] = value
    with pytest.raises(ValueError, match=words):
        STRONGEST.apply(*columns)


def test_wrong_shapes_parameters_and_too_few_queries_are_refused() -> None:
    one, two = np.ones(1), np.ones(2)
    with pytest.raises(ValueError, match="one length"):
        STRONGEST.apply(one, two, two)
    with pytest.raises(ValueError, match="weight in"):
        EngagementCorrection(weight=3, prior=1)
    with pytest.raises(ValueError, match="at least 5 queries"):
        fit(one, one, one, one, np.zeros(1, dtype=np.int64), np.random.default_rng(0))
