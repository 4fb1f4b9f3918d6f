import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from ops.evaluation.bootstrap import (
    MIN_QUERIES,
    difference,
    estimate,
    estimates,
    mean_difference,
    mean_estimate,
    resampled_weights,
)
from ops.evaluation.metrics import METRICS, accuracy, auc, ece, kappa
from ops.evaluation.pairs import Floats, ScoredPairs, scored_pairs

GAINS = {"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0}
LABELS = np.array(list(GAINS))


def pairs_of(
    rng: np.random.Generator, *, queries: int, per_query: int, noise: float, shared: float = 0.0
) -> ScoredPairs:
    """Make pairs whose score is the gain under noise, some of it shared by all pairs of a query."""
    count = queries * per_query
    query = np.repeat(np.arange(queries), per_query)
    grade = rng.integers(0, 4, count)
    off = noise * rng.normal(size=count) + shared * rng.normal(size=queries)[query]
    score = 1 / (1 + np.exp(-3 * (1.5 - grade + off)))
    predicted = np.clip(np.round(grade + off), 0, 3).astype(int)
    return scored_pairs(
        gains=GAINS,
        queries=query.tolist(),
        scores=score,
        grades=LABELS[grade].tolist(),
        predicted=LABELS[predicted].tolist(),
    )


def right_or_wrong(right: Floats) -> ScoredPairs:
    """Make queries of 10 pairs; `right[q]` of each are predicted rightly."""
    grades = ["E"] * 10 * len(right)
    predicted = [label for count in right for label in ["E"] * int(count) + ["I"] * (10 - int(count))]
    queries = [number for number in range(len(right)) for _ in range(10)]
    return scored_pairs(
        gains=GAINS, queries=queries, scores=[0.5] * len(grades), grades=grades, predicted=predicted
    )


@given(queries=st.integers(1, 50), seed=st.integers(0, 2**32))
def test_every_resample_draws_as_many_queries_as_there_are(queries: int, seed: int) -> None:
    weights = resampled_weights(np.random.default_rng(seed), queries=queries, resamples=20)
    assert weights.shape == (20, queries)
    assert (weights.sum(axis=1) == queries).all()
    assert (weights >= 0).all()


def test_interval_of_a_mean_is_the_analytic_one() -> None:
    rng = np.random.default_rng(5)
    right = rng.binomial(10, rng.beta(4, 2, 400)).astype(np.float64)
    found = estimates(right_or_wrong(right), rng, metrics={"accuracy": accuracy}, resamples=4000)["accuracy"]
    half = norm.ppf(0.975) * right.std() / 10 / math.sqrt(400)
    assert found.value == pytest.approx(right.mean() / 10)
    assert found.lower == pytest.approx(right.mean() / 10 - half, abs=half * 0.08)
    assert found.upper == pytest.approx(right.mean() / 10 + half, abs=half * 0.08)


def test_pairs_of_a_query_are_not_taken_for_independent() -> None:
    # All pairs of a query alike: 50 queries say as much as 50 pairs.
    rng = np.random.default_rng(6)
    right = 10 * rng.binomial(1, 0.5, 50).astype(np.float64)
    found = estimates(right_or_wrong(right), rng, metrics={"accuracy": accuracy}, resamples=2000)["accuracy"]
    assert found.lower is not None
    assert found.upper is not None
    assert found.upper - found.lower == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(50), rel=0.1)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = 0
    for seed in range(200):
        rng = np.random.default_rng([11, seed])
        right = rng.binomial(10, rng.beta(4, 2, 60)).astype(np.float64)
        found = estimates(right_or_wrong(right), rng, metrics={"accuracy": accuracy}, resamples=300)[
            "accuracy"
        ]
        assert found.lower is not None
        assert found.upper is not None
        held += found.lower <= 4 / 6 <= found.upper
    assert 0.90 <= held / 200 <= 0.985


def test_same_seed_same_intervals() -> None:
    pairs = pairs_of(np.random.default_rng(1), queries=30, per_query=8, noise=1.0)
    first, second, other = (
        estimates(pairs, np.random.default_rng(seed), resamples=200) for seed in (3, 3, 4)
    )
    assert first == second
    assert first != other
    assert list(first) == list(METRICS)
    assert all(each.lower is not None and each.why == "" for each in first.values())


def test_paired_difference_is_narrower_than_two_intervals() -> None:
    rng = np.random.default_rng(8)
    good = pairs_of(rng, queries=80, per_query=10, noise=0.5, shared=1.0)
    score = np.clip(good.score + 0.05 * rng.normal(size=len(good)), 0, 1)
    worse = good.with_scores(score)
    weights = resampled_weights(rng, queries=good.queries)
    alone = [estimate(auc, pairs, weights) for pairs in (good, worse)]
    found = difference(auc, good, worse, weights)
    assert found.value == pytest.approx((alone[0].value or 0) - (alone[1].value or 0))
    assert found.lower is not None
    assert found.upper is not None
    widths = [(each.upper or 0) - (each.lower or 0) for each in alone]
    assert found.upper - found.lower < 0.5 * min(widths)
    assert difference(auc, good, good, weights).upper == 0


def test_difference_of_other_pairs_is_refused() -> None:
    rng = np.random.default_rng(8)
    ours, theirs = (pairs_of(rng, queries=20, per_query=4, noise=1) for _ in range(2))
    with pytest.raises(ValueError, match="a paired difference needs the same pairs in the same order"):
        difference(auc, ours, theirs, resampled_weights(rng, queries=20))


def test_difference_from_a_scorer_without_grades_says_so() -> None:
    rng = np.random.default_rng(8)
    ours = pairs_of(rng, queries=20, per_query=4, noise=1)
    theirs = scored_pairs(
        gains=GAINS,
        queries=ours.query.tolist(),
        scores=ours.score,
        grades=LABELS[ours.grade].tolist(),
    )
    found = difference(kappa, ours, theirs, resampled_weights(rng, queries=20))
    assert (found.value, found.why) == (None, "no grades predicted")


def test_undefined_figures_have_no_value_and_a_reason() -> None:
    pairs = scored_pairs(gains=GAINS, queries=range(20), scores=[0.5] * 20, grades=["E"] * 20)
    found = estimates(pairs, np.random.default_rng(1))
    assert found["auc"].value is None
    assert found["auc"].why == "20 of 20 pairs are relevant: both kinds are needed"
    assert found["kappa"].why == "no grades predicted"


def test_no_interval_from_a_handful_of_queries() -> None:
    pairs = pairs_of(np.random.default_rng(1), queries=MIN_QUERIES - 1, per_query=20, noise=1)
    found = estimates(pairs, np.random.default_rng(1), metrics={"ece": ece})["ece"]
    assert found.value is not None
    assert (found.lower, found.why) == (None, "no interval: 9 queries, 10 are needed")


def test_no_interval_where_resamples_are_undefined() -> None:
    # One relevant pair: a third of the resamples miss its query.
    pairs = scored_pairs(
        gains=GAINS, queries=range(20), scores=[each / 20 for each in range(20)], grades=["I"] * 19 + ["E"]
    )
    found = estimates(pairs, np.random.default_rng(1), metrics={"auc": auc})["auc"]
    assert (found.value, found.lower) == (1, None)
    assert found.why.startswith("no interval: undefined in 3")


def test_no_pairs_at_all_is_a_reason_too() -> None:
    pairs = scored_pairs(gains=GAINS, queries=[], scores=[], grades=[], predicted=[])
    assert all(
        each.value is None and each.why for each in estimates(pairs, np.random.default_rng(1)).values()
    )


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = pairs_of(np.random.default_rng(1), queries=30, per_query=8, noise=1.0)
    whole = estimates(pairs, np.random.default_rng(3), resamples=100)
    monkeypatch.setattr("ops.evaluation.bootstrap._BLOCK", 1000)
    for name, each in estimates(pairs, np.random.default_rng(3), resamples=100).items():
        assert each.value == pytest.approx(whole[name].value)
        assert each.lower == pytest.approx(whole[name].lower)


def calibrated(rng: np.random.Generator, *, queries: int, power: float) -> ScoredPairs:
    """Make queries of 10 pairs that are relevant with probability score to the `power`."""
    score = rng.uniform(size=10 * queries)
    relevant = rng.uniform(size=10 * queries) < score**power
    return scored_pairs(
        gains={"Yes": 1.0, "No": 0.0},
        queries=np.repeat(np.arange(queries), 10).tolist(),
        scores=score,
        grades=["Yes" if each else "No" for each in relevant],
    )


def test_interval_of_a_small_calibration_error_reaches_down_to_zero() -> None:
    rng = np.random.default_rng(9)
    found = estimates(calibrated(rng, queries=40, power=1), rng, metrics={"ece": ece})["ece"]
    assert found.value is not None
    assert found.lower is not None
    assert found.upper is not None
    assert 0 <= found.lower < found.value < found.upper < 0.15


def test_interval_of_a_large_calibration_error_holds_the_truth() -> None:
    held = 0
    for seed in range(100):
        rng = np.random.default_rng([13, seed])
        found = estimates(calibrated(rng, queries=80, power=3), rng, metrics={"ece": ece}, resamples=300)[
            "ece"
        ]
        assert found.lower is not None
        assert found.upper is not None
        # The mean of score - score**3 is 1/2 - 1/4, and no bin has another sign.
        held += found.lower <= 1 / 4 <= found.upper
    assert held >= 90


def test_paired_calibration_errors_are_told_apart() -> None:
    rng = np.random.default_rng(10)
    good = calibrated(rng, queries=800, power=1)
    bold = good.with_scores(np.sqrt(good.score))
    found = difference(ece, good, bold, resampled_weights(rng, queries=800))
    # The mean of sqrt(p) - p is 2/3 - 1/2.
    assert found.value == pytest.approx(-1 / 6, abs=0.03)
    assert found.value is not None
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower < found.value < found.upper < 0


def test_the_mean_over_runs_is_that_of_their_figures_and_its_interval_is_narrower_than_theirs() -> None:
    rng = np.random.default_rng(3)
    first = pairs_of(rng, queries=80, per_query=6, noise=1.0)
    runs = [
        first.with_scores(np.clip(first.score + rng.normal(scale=0.2, size=len(first)), 0, 1))
        for _ in range(3)
    ]
    weights = resampled_weights(rng, queries=80)
    alone = [estimate(auc, run, weights) for run in runs]
    together = mean_estimate(auc, runs, weights)
    assert together.value == pytest.approx(np.mean([each.value for each in alone]))
    assert together.lower is not None
    assert together.upper is not None
    assert together.upper - together.lower < np.mean([each.upper - each.lower for each in alone])  # type: ignore[operator]
    nothing = mean_difference(auc, runs, runs[::-1], weights)
    assert nothing.value == pytest.approx(0)
    assert nothing.upper == pytest.approx(0)
    better = mean_difference(auc, [first], runs, weights)
    assert better.value == pytest.approx(estimate(auc, first, weights).value - together.value)  # type: ignore[operator]


def test_runs_of_other_pairs_are_refused() -> None:
    rng = np.random.default_rng(3)
    one, other = (pairs_of(rng, queries=20, per_query=3, noise=1.0) for _ in range(2))
    with pytest.raises(ValueError, match="same pairs in the same order"):
        mean_estimate(auc, [one, other], resampled_weights(rng, queries=20))
