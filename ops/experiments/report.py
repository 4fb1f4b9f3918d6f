"""The experiment's result as one value: what the page draws and `relevance experiment report` prints.

CTR over all traffic decides the verdict. The other metrics and the cuts by traffic class have intervals at
the same level each, not corrected for there being several: they say where to look, not who wins.
"""

from __future__ import annotations

from typing import Literal

from clickhouse_connect.driver.client import Client
from tea_tasting.aggr import Aggregates

from ops.experiments import aggregates
from ops.experiments.aggregates import ALL_TRAFFIC, MAX_LOOKS, Cells, Exposed, Looks, Serving, Window
from ops.experiments.guardrails import guardrail_alpha, guardrails
from ops.experiments.report_records import Arm, ArmTraffic, ExperimentReport, Look, LookEffect, LookEstimate
from ops.experiments.report_text import render_text
from ops.experiments.statistics import CTR, CVR, METRICS, REVENUE, Effect, Metric, effect, sample_ratio, value
from ops.experiments.verdict import verdict
from ops.settings import Settings
from streams.records import ExperimentState, TrafficClass

__all__ = ["ExperimentReport", "experiment_report", "render_text", "report_since"]

CUTS = (ALL_TRAFFIC, TrafficClass.HEAD.value, TrafficClass.TORSO.value, TrafficClass.TAIL.value)


def experiment_report(
    client: Client,
    settings: Settings,
    *,
    now_ms: int,
    state: ExperimentState | None = None,
    max_looks: int = MAX_LOOKS,
) -> ExperimentReport:
    """Compute the report of `settings.experiment` from the store as of `now_ms`.

    With a `state` only the time it covers counts: up to the moment it was stopped, or since it was started.
    `max_looks` (at least 2) is how finely the series is drawn. Raises ClickHouseError.
    """
    experiment = settings.experiment
    window = _window(state, now_ms)
    exposed = aggregates.exposed(client, experiment=experiment.name, window=window)
    looks = Looks(window.from_ms, 1, 0)
    cells: Cells = {}
    serving: dict[str, Serving] = {}
    if exposed.start_ms is not None:
        looks = aggregates.looks_between(exposed.start_ms, window.until_ms, most=max_looks)
        cells = aggregates.cells(
            client, experiment=experiment.name, window=window, start_ms=exposed.start_ms, looks=looks
        )
        serving = aggregates.serving(
            client, experiment=experiment.name, window=window, limit_ms=experiment.guardrail_latency_ms
        )
    classes = {
        cut: [_effect(cells, cut, looks.count - 1, metric, settings) for metric in METRICS] for cut in CUTS
    }
    series = {cut: [_look(cells, cut, look, looks, settings) for look in range(looks.count)] for cut in CUTS}
    ratio = sample_ratio(
        exposed.shoppers.get(experiment.control, 0),
        exposed.shoppers.get(experiment.treatment, 0),
        treatment_share=experiment.treatment_share,
    )
    judged = guardrails(
        ctr=_effect(cells, ALL_TRAFFIC, looks.count - 1, CTR, settings, alpha=guardrail_alpha(experiment)),
        treatment=serving.get(experiment.treatment),
        control=serving.get(experiment.control),
        treatment_shoppers=exposed.shoppers.get(experiment.treatment, 0),
        ratio=ratio,
        settings=experiment,
    )
    sure_since_ms = _sure_since(series[ALL_TRAFFIC])
    return ExperimentReport(
        experiment=experiment.name,
        at_ms=now_ms,
        state="running" if state is None else state.state,
        state_reason="" if state is None else state.reason,
        start_ms=exposed.start_ms,
        alpha=experiment.alpha,
        expected_effect=experiment.expected_effect,
        min_shoppers=experiment.min_shoppers,
        arms=_arms(exposed, cells, looks.count - 1, serving, settings),
        in_several_arms=exposed.in_several_arms,
        classes=classes,
        series=series,
        sample_ratio=ratio,
        guardrails=judged,
        sure_since_ms=sure_since_ms,
        verdict=verdict(
            shoppers=exposed.shoppers,
            ctr=classes[ALL_TRAFFIC][0],
            guardrails=judged,
            sure_since_ms=sure_since_ms,
            state=state,
            now_ms=now_ms,
            settings=experiment,
        ),
    )


def report_since(client: Client, settings: Settings, *, since_ms: int, now_ms: int) -> ExperimentReport:
    """Compute the report over what has happened since then (epoch milliseconds). Raises ClickHouseError.

    For verdicts on a version: both arms over the time in which it scored one of them. It has the coarsest series.
    """
    window = ExperimentState(
        experiment=settings.experiment.name, state="running", reason="", since_ms=since_ms
    )
    return experiment_report(client, settings, now_ms=now_ms, state=window, max_looks=2)


def _window(state: ExperimentState | None, now_ms: int) -> Window:
    if state is None:
        return Window(0, now_ms)
    if state.state == "stopped":
        return Window(0, min(state.since_ms, now_ms))
    return Window(state.since_ms, max(now_ms, state.since_ms))


def _cell(cells: Cells, cut: str, look: int, arm: str) -> Aggregates | None:
    return cells.get((cut, look, arm))


def _effect(
    cells: Cells, cut: str, look: int, metric: Metric, settings: Settings, *, alpha: float | None = None
) -> Effect:
    experiment = settings.experiment
    return effect(
        _cell(cells, cut, look, experiment.control),
        _cell(cells, cut, look, experiment.treatment),
        metric,
        alpha=alpha or experiment.alpha,
        expected_effect=experiment.expected_effect,
        min_shoppers=experiment.min_shoppers,
    )


def _look(cells: Cells, cut: str, look: int, looks: Looks, settings: Settings) -> Look:
    effects = []
    for metric in METRICS:
        estimate = _effect(cells, cut, look, metric, settings).estimate
        slim = LookEstimate(estimate.relative, estimate.relative_interval) if estimate else None
        effects.append(LookEffect(metric.name, slim))
    names = (settings.experiment.control, settings.experiment.treatment)
    return Look(looks.at_ms(look), {arm: _traffic(cells, cut, look, arm) for arm in names}, effects)


def _traffic(cells: Cells, cut: str, look: int, arm: str) -> ArmTraffic:
    now, before = (_cell(cells, cut, at, arm) for at in (look, look - 1))
    impressions, clicks = (
        _total(now, name) - _total(before, name) for name in ("impressions", "clicked_impressions")
    )
    return ArmTraffic(impressions, clicks, clicks / impressions if impressions else None)


def _total(cell: Aggregates | None, name: str) -> int:
    return 0 if cell is None else round(cell.count() * cell.mean(name))


def _sure_since(series: list[Look]) -> int | None:
    since_ms = None
    for look in reversed(series):
        estimate = look.effects[0].estimate
        if estimate is None or estimate.relative_interval.lower <= 0 <= estimate.relative_interval.upper:
            break
        since_ms = look.at_ms
    return since_ms


def _arms(
    exposed: Exposed, cells: Cells, look: int, serving: dict[str, Serving], settings: Settings
) -> list[Arm]:
    experiment = settings.experiment
    roles: dict[str, Literal["control", "treatment"]] = {
        experiment.control: "control",
        experiment.treatment: "treatment",
    }
    # Control first, treatment second, others by name.
    names = [name for name in roles if name in exposed.shoppers]
    names += [name for name in exposed.shoppers if name not in roles]
    arms = []
    for name in names:
        cell, served = _cell(cells, ALL_TRAFFIC, look, name), serving.get(name)
        arms.append(
            Arm(
                name=name,
                role=roles.get(name, "other"),
                shoppers=exposed.shoppers[name],
                impressions=_total(cell, "impressions"),
                clicked_impressions=_total(cell, "clicked_impressions"),
                clicks=_total(cell, "clicks"),
                purchases=_total(cell, "purchases"),
                revenue=0.0 if cell is None else float(cell.count() * cell.mean("revenue")),
                ctr=None if cell is None else value(cell, CTR),
                cvr=None if cell is None else value(cell, CVR),
                revenue_per_shopper=None if cell is None else value(cell, REVENUE),
                queries=served.queries if served else 0,
                latency_p99_ms=served.latency_p99_ms if served else None,
                fallback_share=served.fallbacks / served.queries if served and served.queries else None,
            )
        )
    return arms
