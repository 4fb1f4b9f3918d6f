"""The account of an annotation as tables."""

from __future__ import annotations

from pathlib import Path

from ops.cli.context import Context, printable
from teacher.annotation import outputs
from teacher.annotation.accounting import Account


def show(context: Context, account: Account, out: Path) -> None:
    """Print an account, and where the results lie."""
    say = context.console.print
    say(
        f"{account.pairs:,} pairs, {account.person_graded:,} of them graded by people; {account.duplicates:,} "
        f"repeated lines; {account.arbitrated:,} went to the arbiter"
    )
    rows = [
        (what, reason, count)
        for what, reasons in (
            ("kept", account.kept),
            ("dropped", account.dropped),
            ("review", account.review),
        )
        for reason, count in sorted(reasons.items())
    ]
    context.table(("pairs", "because", "count"), rows)
    grades = ", ".join(f"{label} {count:,}" for label, count in account.kept_grades.items())
    say(
        f"kept grades: {grades}; {account.kept_without_chain:,} without a line of chain, "
        f"{account.kept_lines_dropped:,} lines left out for words that stand in neither text"
    )
    say()
    context.table(
        ("between", "and", "pairs", "equal", "kappa", "weighted kappa"),
        [
            (
                each.one,
                each.other,
                each.pairs,
                _figure(each.equal),
                _figure(each.kappa),
                _figure(each.weighted_kappa),
            )
            for each in account.agreement
        ],
    )
    for between, subtasks in account.verdicts.items():
        say()
        context.table(
            (f"verdicts of {between}", "both", "equal", "one only"),
            [(name, each.both, each.equal, each.one_only) for name, each in subtasks.items()],
        )
    say()
    context.table(
        (
            "annotator",
            "judgements",
            "refusals",
            "self-agreement",
            "prompt tokens",
            "cached",
            "written",
            "answering",
            "cost",
        ),
        [
            (
                name,
                work.judgements,
                " ".join(f"{reason} {count}" for reason, count in sorted(work.refusals.items())) or 0,
                _figure(work.mean_self_agreement),
                work.prompt_tokens,
                work.cached_tokens,
                work.completion_tokens,
                f"{work.answer_s:,.0f} s",
                f"${work.cost_usd:,.4f}",
            )
            for name, work in account.work.items()
        ],
    )
    waiting = sum(account.review.values())
    say(f"\n{printable(str(out / outputs.KEPT))}: {sum(account.kept.values()):,} examples")
    if waiting:
        path = out / outputs.REVIEWS[0]
        say(f"{printable(str(path))}: {waiting:,} pairs for people; then `--reviewed {printable(str(path))}`")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
