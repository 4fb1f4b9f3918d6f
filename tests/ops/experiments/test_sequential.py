import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ops.experiments.sequential import (
    interval,
    p_value,
    share_lower_bound,
    share_p_value,
    share_upper_bound,
)

estimates = st.floats(-10, 10)
errors = st.floats(1e-4, 10)
alphas = st.floats(0.001, 0.4)
Z_95 = 1.959964


@given(estimates, errors, errors, alphas)
def test_interval_and_p_value_agree(estimate: float, error: float, mixture: float, alpha: float) -> None:
    lower, upper = interval(estimate=estimate, standard_error=error, mixture_sd=mixture, alpha=alpha)
    assume(min(abs(lower), abs(upper)) > 1e-6)
    p = p_value(estimate=estimate, standard_error=error, mixture_sd=mixture)
    assert 0 <= p <= 1
    assert (p < alpha) == (lower > 0 or upper < 0)


@given(estimates, errors, errors)
def test_it_is_wider_than_the_fixed_interval(estimate: float, error: float, mixture: float) -> None:
    lower, upper = interval(estimate=estimate, standard_error=error, mixture_sd=mixture, alpha=0.05)
    assert lower < estimate - Z_95 * error
    assert upper > estimate + Z_95 * error


@given(estimates, errors, errors, alphas, st.floats(0.01, 100))
def test_the_unit_does_not_matter(
    estimate: float, error: float, mixture: float, alpha: float, scale: float
) -> None:
    lower, upper = interval(estimate=estimate, standard_error=error, mixture_sd=mixture, alpha=alpha)
    scaled = interval(
        estimate=estimate * scale, standard_error=error * scale, mixture_sd=mixture * scale, alpha=alpha
    )
    assert scaled == pytest.approx((lower * scale, upper * scale), rel=1e-6, abs=1e-9)


@given(errors, errors)
def test_no_effect_gives_p_1_and_an_interval_around_0(error: float, mixture: float) -> None:
    assert p_value(estimate=0, standard_error=error, mixture_sd=mixture) == 1
    lower, upper = interval(estimate=0, standard_error=error, mixture_sd=mixture, alpha=0.05)
    assert lower == -upper


def test_golden_value() -> None:
    # s = t = 1: sqrt(2 * (2 ln 20 + ln 2))
    lower, upper = interval(estimate=1, standard_error=1, mixture_sd=1, alpha=0.05)
    assert (lower, upper) == pytest.approx((1 - 3.656395, 1 + 3.656395), abs=1e-5)
    assert p_value(estimate=4, standard_error=1, mixture_sd=1) == pytest.approx(math.sqrt(2) * math.exp(-4))


def test_peeking_keeps_the_error_rate() -> None:
    walks = np.random.default_rng(11).normal(size=(1000, 400)).cumsum(axis=1)
    looks = np.arange(1, 401)
    rejected = sum(
        any(
            p_value(estimate=walk[n - 1] / n, standard_error=n**-0.5, mixture_sd=0.1) < 0.05
            for n in looks[9::10]
        )
        for walk in walks
    )
    assert rejected / len(walks) <= 0.05


@pytest.mark.parametrize(
    "wrong",
    [
        {"estimate": math.nan},
        {"standard_error": 0.0},
        {"standard_error": math.inf},
        {"mixture_sd": 0.0},
        {"mixture_sd": -1.0},
        {"alpha": 0.0},
        {"alpha": 1.0},
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, float]) -> None:
    values = {"estimate": 0.1, "standard_error": 0.1, "mixture_sd": 0.1, "alpha": 0.05} | wrong
    with pytest.raises(ValueError, match="expected"):
        interval(**values)


@given(st.integers(0, 5000), st.integers(0, 5000), st.floats(0.01, 0.99), alphas)
def test_share_bound_and_p_value_agree(hits: int, misses: int, expected: float, alpha: float) -> None:
    trials = hits + misses
    bound = share_lower_bound(successes=hits, trials=trials, expected=expected, alpha=alpha)
    p = share_p_value(successes=hits, trials=trials, expected=expected)
    assert 0 <= bound < 1
    assert bound <= (hits / trials if trials else 0)
    assume(abs(bound - expected) > 1e-9)
    if bound > expected:
        assert p <= alpha * (1 + 1e-6)
    if p < alpha and hits > expected * trials:
        assert bound > expected


def test_peeking_at_a_true_share_keeps_the_error_rate() -> None:
    random = np.random.default_rng(5)
    rejected = 0
    for _ in range(500):
        counts = random.binomial(50, 0.5, size=60).cumsum()
        rejected += any(
            share_p_value(successes=int(count), trials=50 * (look + 1), expected=0.5) < 0.05
            for look, count in enumerate(counts)
        )
    assert rejected / 500 <= 0.05


def test_a_wrong_share_is_found() -> None:
    assert share_p_value(successes=5300, trials=10_000, expected=0.5) < 1e-5
    assert share_lower_bound(successes=300, trials=10_000, expected=0.01, alpha=0.05) > 0.02


@pytest.mark.parametrize(
    ("hits", "trials", "expected"), [(2, 1, 0.5), (-1, 3, 0.5), (1, 2, 0.0), (1, 2, 1.0)]
)
def test_wrong_shares_are_refused(hits: int, trials: int, expected: float) -> None:
    with pytest.raises(ValueError, match="expected 0 <= successes <= trials"):
        share_p_value(successes=hits, trials=trials, expected=expected)
    with pytest.raises(ValueError, match="expected 0 <= successes <= trials"):
        share_lower_bound(successes=hits, trials=trials, expected=expected, alpha=0.05)


@pytest.mark.parametrize(("hits", "trials"), [(0, 0), (0, 500), (20, 500), (500, 500)])
def test_the_upper_end_mirrors_the_lower_one(hits: int, trials: int) -> None:
    upper = share_upper_bound(successes=hits, trials=trials, expected=0.05, alpha=0.05)
    lower = share_lower_bound(successes=hits, trials=trials, expected=0.05, alpha=0.05)
    assert lower <= (hits / trials if trials else 0.5) <= upper <= 1
    assert upper == 1 - share_lower_bound(successes=trials - hits, trials=trials, expected=0.95, alpha=0.05)
