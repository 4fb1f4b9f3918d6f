"""The report as plain text for a terminal."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.experiments.report_records import Arm, ExperimentReport
from ops.experiments.statistics import Effect
from ops.experiments.wording import change, moment, percent, span

WIDTH = 110


def render_text(report: ExperimentReport) -> str:
    """Return the report as lines of at most 110 characters, without colours or other control codes."""
    stream = io.StringIO()
    console = Console(file=stream, width=WIDTH, color_system=None, force_terminal=False, highlight=False)
    # Names come from events, so nothing here may be read as markup.
    console.print(Text(f"experiment {report.experiment} ({report.state}): {report.verdict.text}"))
    console.print(Text(report.verdict.note))
    if report.start_ms is not None:
        console.print(Text(f"running since {moment(report.start_ms, now_ms=report.at_ms)}"))
    if report.arms:
        console.print(_arms(report.arms))
        console.print(_effects(report))
    if report.in_several_arms:
        console.print(Text(f"left out: {report.in_several_arms:,} shoppers seen in more than one arm"))
    console.print(_guardrails(report))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def _arms(arms: list[Arm]) -> Table:
    table = _table("arm", "shoppers", "impressions", "clicks", "purchases", "CTR", "CVR", "revenue", "p99 ms")
    for arm in arms:
        table.add_row(
            Text(arm.name),
            f"{arm.shoppers:,}",
            f"{arm.impressions:,}",
            f"{arm.clicks:,}",
            f"{arm.purchases:,}",
            "-" if arm.ctr is None else percent(arm.ctr, 2),
            "-" if arm.cvr is None else percent(arm.cvr, 2),
            f"{arm.revenue:,.2f}",
            "-" if arm.latency_p99_ms is None else f"{arm.latency_p99_ms:.1f}",
        )
    return table


def _effects(report: ExperimentReport) -> Table:
    level = percent(1 - report.alpha, 0)
    table = _table(
        "queries", "metric", "control", "treatment", "effect", f"{level} interval", "sure", "CUPED"
    )
    for cut, effects in report.classes.items():
        for effect in effects:
            table.add_row(cut, effect.title, *_effect(effect))
    return table


def _effect(effect: Effect) -> tuple[str, ...]:
    write = _rate if effect.metric in {"ctr", "cvr"} else _amount
    values = write(effect.control), write(effect.treatment)
    estimate = effect.estimate
    if estimate is None:
        return *values, "-", effect.why_not, "", ""
    # How much of the variance the shoppers' history explained away.
    cuped = f"-{percent(estimate.variance_reduction, 0)}" if estimate.cuped else ""
    interval = span(estimate.relative_interval)
    return *values, change(estimate.relative), interval, "yes" if estimate.sure else "no", cuped


def _rate(share: float | None) -> str:
    return "-" if share is None else percent(share, 2)


def _amount(amount: float | None) -> str:
    return "-" if amount is None else f"{amount:,.3f}"


def _guardrails(report: ExperimentReport) -> Table:
    table = _table("guardrail", "", "why")
    for guardrail in report.guardrails:
        table.add_row(guardrail.name, "BREACHED" if guardrail.breached else "ok", Text(guardrail.why))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
