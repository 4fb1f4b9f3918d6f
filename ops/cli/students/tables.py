"""Rows of figures as the terminal shows them."""

from __future__ import annotations

from collections.abc import Sequence

from ops.cli.context import Context
from ops.evaluation.bootstrap import Estimate
from students.comparison import Row

HEADINGS = {
    "auc": "AUC",
    "pr_auc": "PR-AUC",
    "ndcg_at_10": "nDCG@10",
    "spearman": "Spearman",
    "ece": "ECE",
    "accuracy": "accuracy",
}


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
    """Return a figure with its interval, or why there is none.

    >>> shown(Estimate(value=0.5, lower=0.4, upper=0.61))
    '0.500 [0.400, 0.610]'
    """
    if figure.value is None:
        return f"- ({figure.why})"
    sign = "+" if signed else ""
    if figure.lower is None or figure.upper is None:
        return f"{figure.value:{sign}.3f} ({figure.why})"
    return f"{figure.value:{sign}.3f} [{figure.lower:{sign}.3f}, {figure.upper:{sign}.3f}]"
