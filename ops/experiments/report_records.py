"""The shape of the experiment's report, as JSON and in Python."""

from __future__ import annotations

from typing import Literal

import msgspec

from ops.experiments.guardrails import Guardrail
from ops.experiments.statistics import Effect, Interval, SampleRatioCheck
from ops.experiments.verdict import Verdict


class Arm(msgspec.Struct, frozen=True):
    """An arm's totals over the shoppers who were in it alone. Rates are None where their denominator is 0."""

    name: str
    role: Literal["control", "treatment", "other"]
    shoppers: int
    impressions: int
    clicked_impressions: int
    clicks: int
    purchases: int
    revenue: float
    ctr: float | None
    cvr: float | None
    revenue_per_shopper: float | None
    queries: int
    latency_p99_ms: float | None
    fallback_share: float | None


class ArmTraffic(msgspec.Struct, frozen=True):
    """An arm's traffic since the look before; `clicks` are clicked impressions, `ctr` their share or None."""

    impressions: int
    clicks: int
    ctr: float | None


class LookEstimate(msgspec.Struct, frozen=True):
    """The relative effect over everything up to a look, with its always-valid interval."""

    relative: float
    relative_interval: Interval


class LookEffect(msgspec.Struct, frozen=True):
    """One metric at one look; `estimate` is None as long as there is none."""

    metric: str
    estimate: LookEstimate | None


class Look(msgspec.Struct, frozen=True):
    """A moment (epoch milliseconds) at which stock was taken; `arms` by name."""

    at_ms: int
    arms: dict[str, ArmTraffic]
    effects: list[LookEffect]


class ExperimentReport(msgspec.Struct, frozen=True):
    """Everything about an experiment as of `at_ms`. `classes` and `series` are by `all`, `head`, `torso` and
    `tail`.

    `start_ms` is when exposures began, None before. `sure_since_ms` is the first look from which on the CTR
    effect has been sure at every look, None while it is not. `state` is `running` or `stopped`, with the
    reason. Shares and relative effects are fractions, not percentages; no number is NaN or infinite.
    """

    experiment: str
    at_ms: int
    state: str
    state_reason: str
    start_ms: int | None
    alpha: float
    expected_effect: float
    min_shoppers: int
    arms: list[Arm]
    in_several_arms: int
    classes: dict[str, list[Effect]]
    series: dict[str, list[Look]]
    sample_ratio: SampleRatioCheck | None
    guardrails: list[Guardrail]
    sure_since_ms: int | None
    verdict: Verdict
