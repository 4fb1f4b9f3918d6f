"""`relevance students rollback`: the champion before the present one becomes the champion again."""

from __future__ import annotations

import click

from ops.cli.context import Context, pass_context
from ops.cli.students.publishing import publisher_of, told
from ops.settings import load


@click.command(
    epilog="\b\nExamples:\n  relevance students rollback interaction\n"
    '  relevance students rollback representation --pin --decision "recall fell"'
)
@click.argument("kind", type=click.Choice(["interaction", "representation"]))
@click.option("--pin", is_flag=True, help="Keep it until it is unpinned.")
@click.option("--unpin", is_flag=True, help="Let go of a pinned champion.")
@click.option("--decision", default="", help="Why, for the record.")
@pass_context
def rollback(context: Context, *, kind: str, pin: bool, unpin: bool, decision: str) -> None:
    """Go back to the champion before. Nothing is loaded for it: that version is still served."""
    settings = load(context.environment())
    with publisher_of(settings) as publisher:
        step = publisher.roll_back(kind, pin=pin, unpin=unpin, decision=decision)
        told(context, settings, publisher, step)
