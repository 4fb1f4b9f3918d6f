"""What must not get worse, whatever is gained elsewhere: verdicts that may be asked for at any moment.

Each guardrail is breached only where its always-valid interval lies wholly beyond its limit, at a level of
alpha / 4, so all four together stop a harmless treatment with a probability of at most alpha however often
they are looked at. The price: a small breach is noticed late, a big one within some hundred queries.

Latency and fallbacks are held against the control's in the same time: a machine that is overloaded slows both arms
and is no fault of the treatment.
"""

from __future__ import annotations

import msgspec

from ops.experiments.aggregates import Serving
from ops.experiments.sequential import share_lower_bound, share_upper_bound
from ops.experiments.statistics import Effect, SampleRatioCheck
from ops.experiments.wording import percent, span
from ops.settings import Experiment

#: The error rate is split evenly over CTR, latency, fallbacks and sample ratio.
GUARDRAILS = 4
#: By definition of p99.
SLOW_SHARE = 0.01
#: A limit of 0 or 1 can't be the centre of a mixture.
SMALLEST_SHARE = 1e-6


class Guardrail(msgspec.Struct, frozen=True):
    """One verdict. `value` is what was measured (None: not yet) and `limit` what it is held against, both in
    the unit that the name ends in; `why` is one sentence."""

    name: str
    value: float | None
    limit: float
    breached: bool
    why: str


def guardrail_alpha(settings: Experiment) -> float:
    """Return the error rate that each guardrail gets."""
    return settings.alpha / GUARDRAILS


def guardrails(
    *,
    ctr: Effect,
    treatment: Serving | None,
    control: Serving | None,
    treatment_shoppers: int,
    ratio: SampleRatioCheck | None,
    settings: Experiment,
) -> list[Guardrail]:
    """Judge all guardrails; none is breached before the treatment has `settings.min_shoppers` shoppers.

    `ctr` must have been estimated at `guardrail_alpha`, and slow queries of both arms counted above
    `settings.guardrail_latency_ms`.
    """
    found = [
        _ctr(ctr, settings),
        _latency(treatment, control, settings),
        _fallbacks(treatment, control, settings),
        _sample_ratio(ratio, settings),
    ]
    if treatment_shoppers >= settings.min_shoppers:
        return found
    why = f"too early to judge: {treatment_shoppers} of {settings.min_shoppers} shoppers in the treatment"
    return [msgspec.structs.replace(each, breached=False, why=why) for each in found]


def _ctr(ctr: Effect, settings: Experiment) -> Guardrail:
    limit = -settings.guardrail_ctr_drop
    estimate = ctr.estimate
    if estimate is None:
        return Guardrail("ctr_change", None, limit, False, ctr.why_not)
    breached = estimate.relative_interval.upper < limit
    if breached:
        why = f"CTR is surely more than {percent(-limit)} lower: {span(estimate.relative_interval)}"
    else:
        why = f"CTR is not surely more than {percent(-limit)} lower: {span(estimate.relative_interval)}"
    return Guardrail("ctr_change", estimate.relative, limit, breached, why)


def _latency(treatment: Serving | None, control: Serving | None, settings: Experiment) -> Guardrail:
    limit_ms = settings.guardrail_latency_ms
    if treatment is None or treatment.latency_p99_ms is None:
        return Guardrail(
            "latency_p99_ms", None, limit_ms, False, "no query of the treatment says its latency"
        )
    p99_ms = treatment.latency_p99_ms
    if control is None or not control.timed:
        why = "no query of the control says its latency, to compare with"
        return Guardrail("latency_p99_ms", p99_ms, limit_ms, False, why)
    ours, theirs = (treatment.slow, treatment.timed), (control.slow, control.timed)
    breached = _surely_more(ours, theirs, margin=SLOW_SHARE, settings=settings)
    why = (
        f"{percent(treatment.slow / treatment.timed, 2)} of {treatment.timed:,} queries took longer than "
        f"{limit_ms:g} ms, {percent(control.slow / control.timed, 2)} in {settings.control}: "
        f"{_sure(breached)} more by {percent(SLOW_SHARE, 0)}"
    )
    return Guardrail("latency_p99_ms", p99_ms, limit_ms, breached, why)


def _fallbacks(treatment: Serving | None, control: Serving | None, settings: Experiment) -> Guardrail:
    margin = settings.guardrail_fallback_share
    if treatment is None or not treatment.queries:
        return Guardrail("fallback_share", None, margin, False, "the treatment has served no query")
    share = treatment.fallbacks / treatment.queries
    if control is None or not control.queries:
        why = "the control has served no query to compare with"
        return Guardrail("fallback_share", share, margin, False, why)
    ours, theirs = (treatment.fallbacks, treatment.queries), (control.fallbacks, control.queries)
    breached = _surely_more(ours, theirs, margin=margin, settings=settings)
    usual = control.fallbacks / control.queries
    why = (
        f"{percent(share, 2)} of {treatment.queries:,} queries were scored without the model, "
        f"{percent(usual, 2)} in {settings.control}: {_sure(breached)} more by {percent(margin)}"
    )
    return Guardrail("fallback_share", share, min(usual + margin, 1.0), breached, why)


def _sure(breached: bool) -> str:
    return "surely" if breached else "not surely"


def _sample_ratio(ratio: SampleRatioCheck | None, settings: Experiment) -> Guardrail:
    limit = guardrail_alpha(settings)
    if ratio is None:
        return Guardrail("sample_ratio_p_value", None, limit, False, "there is no split to check")
    share = ratio.treatment / (ratio.control + ratio.treatment)
    breached = ratio.p_value < limit
    meant = percent(ratio.expected_treatment_share)
    says = "chance does not explain it: assignment or logging is broken" if breached else "chance explains it"
    why = f"{percent(share)} of shoppers are in the treatment, {meant} meant; {says}"
    return Guardrail("sample_ratio_p_value", ratio.p_value, limit, breached, why)


def _surely_more(
    ours: tuple[int, int], theirs: tuple[int, int], *, margin: float, settings: Experiment
) -> bool:
    """Tell whether our share of (successes, trials) is surely greater than theirs by more than `margin`.

    The lower end of ours against the upper end of theirs, each always valid at half the guardrail's level.
    """
    centre = min(max(margin, SMALLEST_SHARE), 1 - SMALLEST_SHARE)
    alpha = guardrail_alpha(settings) / 2
    lower = share_lower_bound(successes=ours[0], trials=ours[1], expected=centre, alpha=alpha)
    upper = share_upper_bound(successes=theirs[0], trials=theirs[1], expected=centre, alpha=alpha)
    return lower - upper > margin
