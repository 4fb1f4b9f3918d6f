"""Who wins, by how much, how sure, since when: in one plain sentence and one that explains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from ops.experiments.guardrails import Guardrail
from ops.experiments.statistics import Effect
from ops.experiments.wording import change, moment, percent, span
from ops.settings import Experiment
from streams.records import ExperimentState


class Verdict(msgspec.Struct, frozen=True):
    """`text` is the verdict, `note` what to make of it. `tone`: the treatment is surely better or worse, must
    `stop` (a guardrail is breached, or the experiment was stopped), or it is `open`."""

    text: str
    note: str
    tone: Literal["better", "worse", "stop", "open"]


def verdict(
    *,
    shoppers: Mapping[str, int],
    ctr: Effect,
    guardrails: Sequence[Guardrail],
    sure_since_ms: int | None,
    state: ExperimentState | None,
    now_ms: int,
    settings: Experiment,
) -> Verdict:
    """Judge the experiment. `shoppers` is by arm, `ctr` the effect over all traffic at `settings.alpha`."""
    result = _result(shoppers, ctr, sure_since_ms, now_ms, settings)
    if state is not None and state.state == "stopped":
        when = moment(state.since_ms, now_ms=now_ms)
        return Verdict(f"stopped at {when}: {state.reason}", result.text, "stop")
    breached = [guardrail.why for guardrail in guardrails if guardrail.breached]
    if breached:
        return Verdict(f"stop {settings.treatment}: {'; '.join(breached)}", result.text, "stop")
    return result


def _result(
    shoppers: Mapping[str, int], ctr: Effect, sure_since_ms: int | None, now_ms: int, settings: Experiment
) -> Verdict:
    present = [arm for arm in (settings.control, settings.treatment) if shoppers.get(arm)]
    if not present:
        return Verdict(
            "no data yet",
            f"No shopper has been exposed to experiment {settings.name!r}; figures come with the first ones.",
            "open",
        )
    if len(present) == 1:
        return Verdict(
            f"nothing to compare: only {present[0]} has shoppers ({shoppers[present[0]]:,})",
            "The other arm has had no exposure yet.",
            "open",
        )
    estimate = ctr.estimate
    if estimate is None:
        return Verdict(ctr.why_not, "Effects are shown once their intervals can be trusted.", "open")
    level = percent(1 - settings.alpha, 0)
    figures = f"{change(estimate.relative)} ({level} interval {span(estimate.relative_interval)})"
    if not estimate.sure:
        total = sum(shoppers[arm] for arm in present)
        return Verdict(
            f"no sure difference in clicks yet: CTR {figures}",
            f"{total:,} shoppers so far. The interval holds the true effect however often one looks.",
            "open",
        )
    better = estimate.relative > 0
    since = (
        "" if sure_since_ms is None else f", sure since {moment(min(sure_since_ms, now_ms), now_ms=now_ms)}"
    )
    return Verdict(
        f"{settings.treatment} clicks {'more' if better else 'less'}: CTR {figures}{since}",
        "The interval holds the true effect however often one looks.",
        "better" if better else "worse",
    )
