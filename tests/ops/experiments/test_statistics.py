import math

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tea_tasting.aggr import Aggregates

from ops.experiments.aggregates import to_aggregates
from ops.experiments.statistics import CTR, CVR, METRICS, REVENUE, Effect, Metric, effect, sample_ratio, value

Table = npt.NDArray[np.float64]


def shoppers(count: int, seed: int, *, uplift: float = 0.0, history: bool = True) -> Table:
    """Make figures of `VARIABLES`, shape [count, 7]."""
    random = np.random.default_rng(seed)
    taste = 0.1 * random.lognormal(0, 0.6, count)
    busy = random.lognormal(0, 0.7, count)
    shown = 10 * (1 + random.poisson(3 * busy))
    clicked = random.binomial(shown, np.minimum(taste * (1 + uplift), 1))
    bought = random.binomial(clicked, 0.2)
    before = 10 * random.poisson(3 * busy) * history
    clicked_before = random.binomial(before, np.minimum(taste, 1))
    columns = [shown, clicked, clicked, bought, bought * 25.0, before, clicked_before]
    return np.stack(columns, axis=1).astype(np.float64)


def cell(table: Table) -> Aggregates:
    return to_aggregates(len(table), table.mean(axis=0).tolist(), np.cov(table, rowvar=False).tolist())


def compare(control: Table, treatment: Table, metric: Metric = CTR, *, alpha: float = 0.05) -> Effect:
    return effect(cell(control), cell(treatment), metric, alpha=alpha, expected_effect=0.1, min_shoppers=100)


def test_ctr_is_the_delta_method_by_hand() -> None:
    control, treatment = shoppers(800, 1, history=False), shoppers(900, 2, uplift=0.3, history=False)
    found = compare(control, treatment)
    variance, ratios = 0.0, []
    for table in (control, treatment):
        shown, clicked = table[:, 0], table[:, 1]
        ratio = clicked.sum() / shown.sum()
        ratios.append(ratio)
        variance += np.var((clicked - ratio * shown) / shown.mean(), ddof=1) / len(table)
    estimate = found.estimate
    assert estimate is not None
    assert (found.control, found.treatment) == pytest.approx(tuple(ratios))
    assert estimate.absolute == pytest.approx(ratios[1] - ratios[0])
    assert estimate.relative == pytest.approx(ratios[1] / ratios[0] - 1)
    half = 1.959964 * math.sqrt(variance)
    assert estimate.absolute_fixed.upper - estimate.absolute == pytest.approx(half, rel=1e-6)
    assert not estimate.cuped
    assert estimate.variance_reduction == 0


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_true_uplift_lies_in_the_intervals(metric: Metric) -> None:
    estimate = compare(shoppers(4000, 3), shoppers(4000, 4, uplift=0.5), metric).estimate
    assert estimate is not None
    truth = 0.0 if metric is CVR else 0.5
    for interval in (estimate.relative_fixed, estimate.relative_interval):
        assert interval.lower < truth < interval.upper
    assert estimate.sure == (metric is not CVR)
    assert (estimate.p_value < 0.05) == estimate.sure


@pytest.mark.parametrize("metric", [CTR, REVENUE], ids=lambda metric: metric.name)
def test_history_narrows_the_interval(metric: Metric) -> None:
    control, treatment = shoppers(3000, 5), shoppers(3000, 6)
    with_history = compare(control, treatment, metric).estimate
    control[:, 5:] = treatment[:, 5:] = 0
    without = compare(control, treatment, metric).estimate
    assert with_history is not None
    assert without is not None
    assert with_history.cuped
    assert not without.cuped
    assert with_history.variance_reduction > 0.1
    widths = [e.absolute_fixed.upper - e.absolute_fixed.lower for e in (with_history, without)]
    assert (widths[0] / widths[1]) ** 2 == pytest.approx(1 - with_history.variance_reduction, rel=0.02)


def test_the_unit_of_revenue_does_not_matter() -> None:
    control, treatment = shoppers(1000, 7), shoppers(1000, 8)
    in_euros = compare(control, treatment, REVENUE).estimate
    control[:, 4] *= 100
    treatment[:, 4] *= 100
    in_cents = compare(control, treatment, REVENUE).estimate
    assert in_euros is not None
    assert in_cents is not None
    assert in_cents.relative == pytest.approx(in_euros.relative)
    assert in_cents.absolute == pytest.approx(100 * in_euros.absolute)
    assert in_cents.absolute_interval.upper == pytest.approx(100 * in_euros.absolute_interval.upper)


def test_each_arm_has_an_always_valid_interval_around_its_own_value() -> None:
    found = compare(shoppers(800, 1), shoppers(900, 2, uplift=0.3))
    for measured, interval in (
        (found.control, found.control_interval),
        (found.treatment, found.treatment_interval),
    ):
        assert measured is not None
        assert interval is not None
        assert 0 <= interval.lower < measured < interval.upper
        assert interval.upper - measured == pytest.approx(measured - interval.lower)
    few = compare(shoppers(50, 1), shoppers(900, 2))
    assert few.control_interval is None


def test_equal_arms_have_no_effect() -> None:
    table = shoppers(500, 9)
    estimate = compare(table, table).estimate
    assert estimate is not None
    assert (estimate.absolute, estimate.relative, estimate.p_value, estimate.fixed_p_value) == (0, 0, 1, 1)
    assert not estimate.sure


def test_a_missing_arm_says_so() -> None:
    found = effect(None, cell(shoppers(500, 1)), CTR, alpha=0.05, expected_effect=0.1, min_shoppers=100)
    assert found.estimate is None
    assert found.control is None
    assert found.treatment is not None
    assert found.why_not == "not enough data yet: 0 of 100 shoppers in the smaller arm"


def test_few_shoppers_and_few_events_say_so() -> None:
    assert compare(shoppers(500, 1), shoppers(40, 2)).why_not == (
        "not enough data yet: 40 of 100 shoppers in the smaller arm"
    )
    quiet = shoppers(500, 3)
    quiet[:, 3:5] = 0
    found = compare(shoppers(500, 1), quiet, CVR)
    assert found.why_not == "not enough data yet: 0 of 20 purchases in treatment"
    assert found.treatment == 0


def test_purchases_without_revenue_say_so() -> None:
    free = shoppers(500, 3)
    free[:, 4] = 0
    assert compare(free, shoppers(500, 1), REVENUE).why_not == "control has no revenue"


def test_no_variety_says_so() -> None:
    same = np.tile([10.0, 3.0, 3.0, 1.0, 7.3, 0.0, 0.0], (300, 1))
    for metric in METRICS:
        assert compare(same, same, metric).why_not == (
            "every shopper in control is alike, so nothing can be said about chance"
        )


def test_a_rate_without_denominator_is_none() -> None:
    table = shoppers(500, 1)
    table[:, 1:5] = 0
    assert value(cell(table), CVR) is None


@settings(max_examples=60)
@given(
    arrays.arrays(np.float64, (12, 7), elements=st.integers(0, 5).map(float)),
    arrays.arrays(np.float64, (12, 7), elements=st.integers(0, 5).map(float)),
)
def test_any_data_give_finite_numbers_or_a_reason(control: Table, treatment: Table) -> None:
    for metric in METRICS:
        found = effect(
            cell(np.tile(control, (5, 1))),
            cell(np.tile(treatment, (5, 1))),
            metric,
            alpha=0.05,
            expected_effect=0.1,
            min_shoppers=50,
        )
        assert (found.estimate is None) == bool(found.why_not)
        if found.estimate is None:
            continue
        plain = msgspec.to_builtins(found.estimate)
        numbers = [plain.pop(name) for name in list(plain) if not isinstance(plain[name], dict)]
        numbers += [edge for interval in plain.values() for edge in interval.values()]
        assert all(map(math.isfinite, numbers))
        estimate = found.estimate
        for interval, inner in (
            (estimate.absolute_interval, estimate.absolute_fixed),
            (estimate.relative_interval, estimate.relative_fixed),
        ):
            assert interval.lower < inner.lower < inner.upper < interval.upper
        assert 0 <= estimate.variance_reduction < 1


def test_sample_ratio() -> None:
    fine = sample_ratio(1000, 1010, treatment_share=0.5)
    broken = sample_ratio(1000, 1200, treatment_share=0.5)
    meant = sample_ratio(1000, 9020, treatment_share=0.9)
    assert fine is not None
    assert broken is not None
    assert meant is not None
    assert fine.p_value == 1
    assert fine.fixed_p_value > 0.5
    assert broken.p_value < 0.01
    # Safe at every look costs something at any one.
    assert broken.fixed_p_value < broken.p_value
    assert meant.p_value > 0.5


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_sample_ratio_without_a_split(share: float) -> None:
    assert sample_ratio(10, 10, treatment_share=share) is None
    assert sample_ratio(0, 0, treatment_share=0.5) is None
