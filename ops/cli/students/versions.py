"""`relevance students list`: every version of the repository, its part, and its last step."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from ops.cli.context import CommandError, Context, pass_context
from ops.settings import load
from students.publishing.ledger import Ledger, LedgerError, route_of
from students.publishing.repository import Repository, root_of
from students.version_folder import student_version


@click.command(name="list", epilog="\b\nExamples:\n  relevance students list")
@pass_context
def versions(context: Context) -> None:
    """Show all versions that were ever published here, newest last; no server need run."""
    settings = load(context.environment())
    root = root_of(settings)
    try:
        steps = Ledger(root).steps()
    except LedgerError as error:
        raise CommandError(str(error)) from error
    if not steps:
        context.console.print(f"no student has been published in {root}")
        return
    lying = {version for numbers in Repository(root).served().values() for version in numbers}
    rows = []
    for version in dict.fromkeys(step.version for step in steps):
        last = [step for step in steps if step.version == version][-1]
        route = route_of(steps, last.kind)
        part = next(
            (
                name
                for name in ("champion", "challenger", "previous")
                if getattr(route, name) == version and version in lying
            ),
            "idle" if version in lying else "-",
        )
        if part == "champion" and route.pinned:
            part = "champion, pinned"
        at = datetime.fromtimestamp(last.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        parent = student_version(last.kind, last.parent) if last.parent else "-"
        rows.append((student_version(last.kind, version), part, last.step, at, parent, last.decision[:80]))
    context.table(("version", "part", "last step", "at (UTC)", "parent", "decision"), rows)
