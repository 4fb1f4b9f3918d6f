"""What must not get worse, whatever is gained elsewhere: verdicts that may be asked for at any moment.

Each guardrail is breached only where its always-valid interval lies wholly beyond its limit, at a level of
alpha / 4, so all four together stop a harmless treatment with a probability of at most alpha however often
they are looked at. The price: a small breach is noticed late, a big one within some hundred queries.
"""

from __future__ import annotations

import msgspec

from ops.experiments.aggregates import Serving
from ops.experiments.sequential import share_lower_bound
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
    treatment_shoppers: int,
    ratio: SampleRatioCheck | None,
    settings: Experiment,
) -> list[Guardrail]:
    """Judge all guardrails; none is breached before the treatment has `settings.min_shoppers` shoppers.

    `ctr` must have been estimated at `guardrail_alpha`, and `treatment.slow` counted above
    `settings.guardrail_latency_ms`.
    """
    found = [
        _ctr(ctr, settings),
        _latency(treatment, settings),
        _fallbacks(treatment, settings),
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


def _latency(treatment: Serving | None, settings: Experiment) -> Guardrail:
    limit_ms = settings.guardrail_latency_ms
    if treatment is None or treatment.latency_p99_ms is None:
        return Guardrail(
            "latency_p99_ms", None, limit_ms, False, "no query of the treatment says its latency"
        )
    share = treatment.slow / treatment.timed
    breached = _surely_above(treatment.slow, treatment.timed, SLOW_SHARE, settings)
    slow = f"{percent(share, 2)} of {treatment.timed:,} queries took longer than {limit_ms:g} ms"
    if breached:
        why = f"{slow}, surely more than {percent(SLOW_SHARE, 0)}"
    else:
        why = f"{slow}, not surely more than {percent(SLOW_SHARE, 0)}"
    return Guardrail("latency_p99_ms", treatment.latency_p99_ms, limit_ms, breached, why)


def _fallbacks(treatment: Serving | None, settings: Experiment) -> Guardrail:
    limit = settings.guardrail_fallback_share
    if treatment is None or not treatment.queries:
        return Guardrail("fallback_share", None, limit, False, "the treatment has served no query")
    share = treatment.fallbacks / treatment.queries
    breached = _surely_above(treatment.fallbacks, treatment.queries, limit, settings)
    sure = "surely" if breached else "not surely"
    why = (
        f"{percent(share, 2)} of {treatment.queries:,} queries were scored without the model, "
        f"{sure} more than {percent(limit)}"
    )
    return Guardrail("fallback_share", share, limit, breached, why)


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


def _surely_above(successes: int, trials: int, limit: float, settings: Experiment) -> bool:
    centre = min(max(limit, SMALLEST_SHARE), 1 - SMALLEST_SHARE)
    bound = share_lower_bound(
        successes=successes, trials=trials, expected=centre, alpha=guardrail_alpha(settings)
    )
    return bound > limit
