"""The demo's last words: what improved, how sure that is, which versions there were, what it cost."""

from __future__ import annotations

from collections.abc import Sequence

from ops.dashboard.loop_view import Figure, LoopOverview, VersionView
from ops.evaluation.bootstrap import Estimate
from ops.experiments.report_records import ExperimentReport
from ops.experiments.statistics import CTR, CVR, Effect
from ops.experiments.wording import change, span
from ops.loop.evaluation import Gain

NAMES = {"auc": "AUC", "ndcg_at_10": "nDCG@10"}
#: Versions and updates that are told one by one; the page has all.
MOST = 8


def summary(overview: LoopOverview, report: ExperimentReport | None, gains: Sequence[Gain]) -> list[str]:
    """Return the lines: what improved first, then what it rests on. `gains` is empty if nothing new was served."""
    effects = list(report.classes["all"]) if report else []
    lines = [headline(gains, effects), *version_lines(overview), *gain_lines(gains)]
    lines += [line for effect in effects if (line := effect_line(effect))]
    return [*lines, *cost_lines(overview), *freshness_lines(overview)]


def headline(gains: Sequence[Gain], effects: Sequence[Effect]) -> str:
    """Return in one sentence what surely got better or worse."""
    better: list[str] = []
    worse: list[str] = []
    for gain in gains:
        name = f"{NAMES[gain.metric]} of {'tail' if gain.cut == 'tail' else 'all'} unseen queries"
        side = sure_side(gain.difference)
        if side:
            (better if side > 0 else worse).append(name)
    for effect in effects:
        if effect.metric in (CTR.name, CVR.name) and effect.estimate and effect.estimate.sure:
            (better if effect.estimate.relative > 0 else worse).append(effect.title)
    told = [
        f"{word}: {', '.join(names)}"
        for word, names in (("surely better", better), ("surely worse", worse))
        if names
    ]
    return "; ".join(told) or "nothing is surely better or worse yet"


def sure_side(found: Estimate) -> int:
    """Return 1 or -1 if an interval lies wholly above or below 0, else 0.

    >>> sure_side(Estimate(value=0.02, lower=0.01, upper=0.03)), sure_side(Estimate(value=0.02))
    (1, 0)
    """
    if found.lower is None or found.upper is None:
        return 0
    return int(found.lower > 0) - int(found.upper < 0)


def version_lines(overview: LoopOverview) -> list[str]:
    """Return how many updates passed, and the versions with their gate's figures, newest first."""
    count = overview.updates
    lines = [
        f"updates    {count['passed']} passed the gate, {count['kept']} were kept back, {count['doubted']} wait in "
        f"doubt, {count['halted']} halted"
    ]
    lines += [f"  {version_line(version)}" for version in overview.versions[:MOST]]
    if overview.kept_back:
        newest = overview.kept_back[0]
        lines.append(f"  last kept back: update {newest.update_id}, {newest.why}")
    lines += [f"  publishing is stopped: {alert.why}" for alert in overview.alerts]
    return lines


def version_line(version: VersionView) -> str:
    """Return a version: what it scores, and what the gate found of it."""
    serves = {"both": "scores both arms", "": version.state or "idle"}.get(
        version.arm, f"scores {version.arm}"
    )
    gate = version.gate
    figures = [
        f"{name} {told}"
        for name, figure in (
            ("tail AUC", gate.tail_auc_difference),
            ("golden AUC", gate.golden_auc_difference),
        )
        if (told := figure_text(figure))
    ]
    if gate.tail_queries is not None and figures:
        figures.append(f"{gate.tail_queries:.0f} unseen tail queries")
    learned = [] if version.fresh is None else [f"{version.fresh} judgements learned"]
    return f"{version.name:<18} {serves:<18} {', '.join([*figures, *learned]) or version.decision}".rstrip()


def figure_text(figure: Figure) -> str:
    """Return a difference with its interval, empty if it was not measured.

    >>> figure_text(Figure(0.031, 0.004, 0.058))
    '+0.031 [+0.004, +0.058]'
    """
    if figure.value is None:
        return ""
    interval = (
        "" if figure.low is None or figure.high is None else f" [{figure.low:+.3f}, {figure.high:+.3f}]"
    )
    return f"{figure.value:+.3f}{interval}"


def gain_lines(gains: Sequence[Gain]) -> list[str]:
    """Return the first and the served student's figures on unseen queries, with their difference."""
    if not gains:
        return ["unseen     no version but the first is served, so there is nothing to compare"]
    lines = [
        "unseen     first student against the served one, on queries that neither people nor teacher graded"
    ]
    for gain in gains:
        first, last = gain.first.value, gain.last.value
        if first is None or last is None:
            lines.append(f"  {gain.cut} {NAMES[gain.metric]}: {gain.first.why or gain.last.why}")
            continue
        told = figure_text(Figure(gain.difference.value, gain.difference.lower, gain.difference.upper))
        sure = "sure" if sure_side(gain.difference) else "not sure"
        lines.append(
            f"  {gain.cut:<4} {NAMES[gain.metric]:<8} {first:.3f} -> {last:.3f}, {told}, {sure},"
            f" {gain.queries} queries"
        )
    return lines


def effect_line(effect: Effect) -> str:
    """Return CTR or CVR of treatment over control with its sequential interval; empty for other metrics."""
    if effect.metric not in (CTR.name, CVR.name):
        return ""
    if effect.estimate is None:
        return f"{effect.title:<10} {effect.why_not}"
    found = effect.estimate
    sure = "sure" if found.sure else "not sure"
    return (
        f"{effect.title:<10} {effect.control or 0:.2%} control, {effect.treatment or 0:.2%} treatment:"
        f" {change(found.relative)}, {span(found.relative_interval)}, {sure}"
    )


def cost_lines(overview: LoopOverview) -> list[str]:
    """Return what the teacher judged, in judgements and tokens."""
    cost = overview.cost
    tokens = cost.prompt_tokens + cost.completion_tokens
    usd = "" if overview.usd_total is None else f", {overview.usd_total:.2f} USD"
    return [
        f"teacher    {cost.judgements:,} judgements, {tokens:,} tokens"
        f" ({cost.cached_tokens:,} of them cached), {cost.refusals:,} refused{usd}"
    ]


def freshness_lines(overview: LoopOverview) -> list[str]:
    """Return how long an event took until a version that learned from it was served, and each stage's part."""
    fresh = overview.freshness
    if fresh.p50_s is None or fresh.p95_s is None:
        return [f"freshness  {fresh.pairs:,} judgements learned, none of them served yet"]
    stages = ", ".join(
        f"{stage.name} {stage.share:.0%} (p50 {stage.p50_s:,.0f} s)"
        for stage in fresh.stages
        if stage.share is not None and stage.p50_s is not None
    )
    return [
        f"freshness  event to served: p50 {fresh.p50_s:,.0f} s, p95 {fresh.p95_s:,.0f} s, {fresh.whole:,} pairs",
        f"  of that until {stages}",
    ]
