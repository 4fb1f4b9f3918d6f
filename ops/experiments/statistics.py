"""Effects of the treatment on CTR, CVR and revenue per shopper, from aggregates over shoppers.

A shopper makes many impressions, so impressions are not independent; shoppers are. Ratios are ratios of means
over shoppers, their variance by the delta method, reduced with the shopper's history (CUPED) where there is
one (tea-tasting's `RatioOfMeans`). Every effect has two intervals: the fixed-horizon one, honest at a single
planned look, and the always-valid one (`ops.experiments.sequential`), which verdicts rest on.
"""

from __future__ import annotations

import math

import msgspec
from scipy.stats import norm
from tea_tasting.aggr import Aggregates
from tea_tasting.metrics import RatioOfMeans, SampleRatio
from tea_tasting.metrics.mean import MeanResult

from ops.experiments import sequential

#: Fewer of the events that a metric counts, in either arm, and its mean is too far from normal.
MIN_EVENTS = 20
#: A variance below this share of the squared mean is rounding, not variety.
ROUNDING = 1e-12


class Metric(msgspec.Struct, frozen=True):
    """`numerator` / `denominator` (None: per shopper), explained by the history's ratio of the same form.

    `events` is what must have happened `MIN_EVENTS` times in each arm.
    """

    name: str
    title: str
    verb: str
    numerator: str
    denominator: str | None
    events: str
    history_numerator: str
    history_denominator: str | None


CTR = Metric(
    "ctr",
    "CTR",
    "clicks",
    "clicked_impressions",
    "impressions",
    "clicked_impressions",
    "history_clicked_impressions",
    "history_impressions",
)
CVR = Metric(
    "cvr",
    "CVR",
    "buys after a click",
    "purchases",
    "clicks",
    "purchases",
    "history_clicked_impressions",
    "history_impressions",
)
REVENUE = Metric(
    "revenue_per_shopper",
    "revenue per shopper",
    "spends",
    "revenue",
    None,
    "purchases",
    "history_clicked_impressions",
    None,
)
METRICS = (CTR, CVR, REVENUE)


class Interval(msgspec.Struct, frozen=True):
    """A closed interval."""

    lower: float
    upper: float


class Estimate(msgspec.Struct, frozen=True):
    """An effect and how sure it is: absolute in the metric's unit, relative as a share of control.

    `absolute_fixed` and `relative_fixed` hold for one planned look, `absolute_interval` and
    `relative_interval` for any number of looks. `p_value` is always valid, `fixed_p_value` is not. With
    `cuped` the effect is adjusted for the shoppers' history, which took `variance_reduction`, in [0, 1), off
    the variance.
    """

    absolute: float
    absolute_fixed: Interval
    absolute_interval: Interval
    relative: float
    relative_fixed: Interval
    relative_interval: Interval
    p_value: float
    fixed_p_value: float
    cuped: bool
    variance_reduction: float

    @property
    def sure(self) -> bool:
        """Tell whether the always-valid relative interval excludes "no effect"."""
        return self.relative_interval.lower > 0 or self.relative_interval.upper < 0


class Effect(msgspec.Struct, frozen=True):
    """A metric in both arms. `control` and `treatment` are as measured, None where the denominator is 0.

    `estimate` is None as long as there is none; `why_not` says why then, and is empty otherwise. Each arm's own
    always-valid interval is known whenever the estimate is.
    """

    metric: str
    title: str
    control: float | None
    treatment: float | None
    estimate: Estimate | None
    why_not: str
    control_interval: Interval | None = None
    treatment_interval: Interval | None = None


class SampleRatioCheck(msgspec.Struct, frozen=True):
    """Whether shoppers came into the arms in the shares meant. `p_value` is always valid, `fixed_p_value` (of
    tea-tasting's binomial or normal test) holds for one look."""

    control: int
    treatment: int
    expected_treatment_share: float
    p_value: float
    fixed_p_value: float


def value(cell: Aggregates, metric: Metric) -> float | None:
    """Return the metric of one arm, or None if its denominator is 0."""
    denominator = cell.mean(metric.denominator)
    return cell.mean(metric.numerator) / denominator if denominator else None


def effect(
    control: Aggregates | None,
    treatment: Aggregates | None,
    metric: Metric,
    *,
    alpha: float,
    expected_effect: float,
    min_shoppers: int,
) -> Effect:
    """Compare the arms in one metric; an arm is None if it has no shoppers.

    The always-valid intervals have level 1 - `alpha` and are tuned to the relative effect `expected_effect`:
    the absolute one's mixture has sd `expected_effect` x control, the relative one's is on the log ratio, as
    tea-tasting's own relative interval is. There is no estimate with fewer than `min_shoppers` shoppers or
    `MIN_EVENTS` events in an arm, or if all shoppers are alike.
    """
    why_not = _why_not(control, treatment, metric, min_shoppers=min_shoppers)
    estimate = None
    intervals: list[Interval | None] = [None, None]
    if not why_not and control is not None and treatment is not None:
        estimate = _estimate(control, treatment, metric, alpha=alpha, expected_effect=expected_effect)
        intervals = [
            _interval_of(cell, metric, alpha=alpha, expected_effect=expected_effect)
            for cell in (control, treatment)
        ]
    return Effect(
        metric=metric.name,
        title=metric.title,
        control=None if control is None else value(control, metric),
        treatment=None if treatment is None else value(treatment, metric),
        estimate=estimate,
        why_not=why_not,
        control_interval=intervals[0],
        treatment_interval=intervals[1],
    )


def sample_ratio(control: int, treatment: int, *, treatment_share: float) -> SampleRatioCheck | None:
    """Check the shoppers' split against `treatment_share`; None with nobody there or a share of 0 or 1."""
    total = control + treatment
    if not total or not 0 < treatment_share < 1:
        return None
    arms = {"control": Aggregates(count_=control), "treatment": Aggregates(count_=treatment)}
    fixed = SampleRatio(ratio=treatment_share / (1 - treatment_share)).analyze(arms, "control", "treatment")
    p_value = sequential.share_p_value(successes=treatment, trials=total, expected=treatment_share)
    return SampleRatioCheck(control, treatment, treatment_share, p_value, float(fixed.pvalue))


def _why_not(
    control: Aggregates | None, treatment: Aggregates | None, metric: Metric, *, min_shoppers: int
) -> str:
    arms = {"control": control, "treatment": treatment}
    present = {arm: cell for arm, cell in arms.items() if cell is not None}
    fewest = min((cell.count() if cell is not None else 0) for cell in arms.values())
    if fewest < max(min_shoppers, 2):
        return f"not enough data yet: {fewest} of {max(min_shoppers, 2)} shoppers in the smaller arm"
    events = {arm: round(cell.count() * cell.mean(metric.events)) for arm, cell in present.items()}
    rarest = min(events, key=lambda arm: events[arm])
    if events[rarest] < MIN_EVENTS:
        named = metric.events.replace("_", " ")
        return f"not enough data yet: {events[rarest]} of {MIN_EVENTS} {named} in {rarest}"
    for arm, cell in present.items():
        if not value(cell, metric):
            return f"{arm} has no {metric.numerator.replace('_', ' ')}"
        if cell.ratio_var(metric.numerator, metric.denominator) <= ROUNDING * _square(cell, metric):
            return f"every shopper in {arm} is alike, so nothing can be said about chance"
    return ""


def _interval_of(cell: Aggregates, metric: Metric, *, alpha: float, expected_effect: float) -> Interval:
    """Return the always-valid interval of one arm's value, which is > 0 and varies."""
    measured: float = cell.mean(metric.numerator) / cell.mean(metric.denominator)
    lower, upper = sequential.interval(
        estimate=measured,
        standard_error=math.sqrt(_variance(cell, metric)),
        mixture_sd=expected_effect * measured,
        alpha=alpha,
    )
    return Interval(max(lower, 0.0), upper)


def _square(cell: Aggregates, metric: Metric) -> float:
    return float(cell.mean(metric.numerator) / cell.mean(metric.denominator)) ** 2


def _estimate(
    control: Aggregates, treatment: Aggregates, metric: Metric, *, alpha: float, expected_effect: float
) -> Estimate:
    adjusted = None
    if _has_history(control, metric) and _has_history(treatment, metric):
        adjusted = _analyse(control, treatment, metric, alpha=alpha, cuped=True)
    found = adjusted or _analyse(control, treatment, metric, alpha=alpha, cuped=False)
    if found is None:
        raise ValueError(f"expected finite aggregates of {metric.name}, got {control} and {treatment}")
    absolute_fixed = Interval(float(found.effect_size_ci_lower), float(found.effect_size_ci_upper))
    relative_fixed = Interval(float(found.rel_effect_size_ci_lower), float(found.rel_effect_size_ci_upper))
    z = float(norm.isf(alpha / 2))
    standard_error = (absolute_fixed.upper - absolute_fixed.lower) / (2 * z)
    log_ratio = math.log1p(float(found.rel_effect_size))
    log_error = (math.log1p(relative_fixed.upper) - math.log1p(relative_fixed.lower)) / (2 * z)
    absolute_interval = sequential.interval(
        estimate=float(found.effect_size),
        standard_error=standard_error,
        mixture_sd=expected_effect * float(found.control),
        alpha=alpha,
    )
    lower, upper = sequential.interval(
        estimate=log_ratio, standard_error=log_error, mixture_sd=expected_effect, alpha=alpha
    )
    unadjusted = _variance(control, metric) + _variance(treatment, metric)
    return Estimate(
        absolute=float(found.effect_size),
        absolute_fixed=absolute_fixed,
        absolute_interval=Interval(*absolute_interval),
        relative=float(found.rel_effect_size),
        relative_fixed=relative_fixed,
        relative_interval=Interval(math.expm1(lower), math.expm1(upper)),
        p_value=sequential.p_value(estimate=log_ratio, standard_error=log_error, mixture_sd=expected_effect),
        fixed_p_value=float(found.pvalue),
        cuped=adjusted is not None,
        variance_reduction=max(1 - standard_error**2 / unadjusted, 0.0) if adjusted else 0.0,
    )


def _variance(cell: Aggregates, metric: Metric) -> float:
    variance: float = cell.ratio_var(metric.numerator, metric.denominator) / cell.count()
    return variance


def _has_history(cell: Aggregates, metric: Metric) -> bool:
    numerator: float = cell.mean(metric.history_numerator)
    denominator: float = cell.mean(metric.history_denominator)
    if not numerator or not denominator:
        return False
    variance: float = cell.ratio_var(metric.history_numerator, metric.history_denominator)
    return variance > ROUNDING * (numerator / denominator) ** 2


def _analyse(
    control: Aggregates, treatment: Aggregates, metric: Metric, *, alpha: float, cuped: bool
) -> MeanResult | None:
    """Return tea-tasting's result, or None if the figures have no ratio (adjusted for a history that
    outweighs the data, a mean can be 0 or below)."""
    analysis = RatioOfMeans(
        metric.numerator,
        metric.denominator,
        metric.history_numerator if cuped else None,
        metric.history_denominator if cuped else None,
        alternative="two-sided",
        confidence_level=1 - alpha,
        equal_var=False,
        use_t=False,
    )
    try:
        found = analysis.analyze_aggregates(control, treatment)
    except (OverflowError, ValueError):
        return None
    if not all(map(math.isfinite, found)) or found.control <= 0 or found.treatment <= 0:
        return None
    has_width = (
        found.effect_size_ci_lower < found.effect_size_ci_upper
        and -1 < found.rel_effect_size_ci_lower < found.rel_effect_size_ci_upper
    )
    return found if has_width else None
