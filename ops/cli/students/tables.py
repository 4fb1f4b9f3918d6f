"""Scorers over the same pairs as a report, and the report as the terminal shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ops.cli.context import Context
from ops.evaluation.bootstrap import Estimate
from ops.evaluation.pairs import ScoredPairs
from students.evaluation.comparison import Row, differences, rows
from students.evaluation.graded import SHOWN, metrics_of
from students.grades import GradeScale

HEADINGS = {
    "auc": "AUC",
    "pr_auc": "PR-AUC",
    "ndcg_at_10": "nDCG@10",
    "spearman": "Spearman",
    "ece": "ECE",
    "accuracy": "accuracy",
}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of every scorer over the same pairs, and the differences that were asked for."""

    figures: list[Row]
    differences: list[Row]


def report(
    scorers: Mapping[str, Sequence[ScoredPairs]], compared: Sequence[tuple[str, str]], scale: GradeScale
) -> Report:
    """Return the report of scorers, each by its runs; `compared` names ours and theirs."""
    metrics = metrics_of(scale)
    return Report(figures=rows(scorers, metrics), differences=differences(scorers, compared, metrics))


def render(context: Context, made: Report, *, by_grade: bool = False) -> None:
    """Print a report; `by_grade` adds the accuracy of each grade."""
    show(context, made.figures, metrics=SHOWN)
    if by_grade:
        context.console.print()
        grades = [name for name in made.figures[0].cuts["all"].figures if name not in SHOWN]
        show(context, made.figures, metrics=grades)
    if made.differences:
        context.console.print()
        show(context, made.differences, metrics=SHOWN)


def show(context: Context, rows: Sequence[Row], *, metrics: Sequence[str]) -> None:
    """Print rows, all of one cut together."""
    if not rows:
        return
    signed = bool(rows[0].against)
    headings = [HEADINGS.get(metric, metric.replace("_", " ")) for metric in metrics]
    cells = [
        [
            f"{row.name} - {row.against}" if signed else row.name,
            str(row.runs),
            f"{row.cuts[cut].queries} {cut}",
            str(row.cuts[cut].pairs),
            *(shown(row.cuts[cut].figures[metric], signed=signed) for metric in metrics),
        ]
        for cut in rows[0].cuts
        for row in rows
    ]
    context.table(["difference" if signed else "scorer", "seeds", "queries", "pairs", *headings], cells)


def shown(figure: Estimate, *, signed: bool = False) -> str:
    """Return a figure with its interval; the report says why one is missing.

    >>> shown(Estimate(value=0.5, lower=0.4, upper=0.61))
    '0.500 [0.400, 0.610]'
    """
    if figure.value is None:
        return "-"
    sign = "+" if signed else ""
    if figure.lower is None or figure.upper is None:
        return f"{figure.value:{sign}.3f} (no interval)"
    return f"{figure.value:{sign}.3f} [{figure.lower:{sign}.3f}, {figure.upper:{sign}.3f}]"
