"""`relevance students promote`: a served version becomes the champion of its kind."""

from __future__ import annotations

import click

from ops.cli.context import Context, pass_context
from ops.cli.students.publishing import publisher_of, told
from ops.settings import load


@click.command(
    epilog="\b\nExamples:\n  relevance students promote 12\n"
    '  relevance students promote 12 --pin --decision "holiday freeze"\n'
    "  relevance students promote 13 --unpin"
)
@click.argument("version", type=click.IntRange(1))
@click.option("--pin", is_flag=True, help="Keep it until it is unpinned.")
@click.option("--unpin", is_flag=True, help="Let go of a pinned champion.")
@click.option("--decision", default="", help="Why, for the record.")
@pass_context
def promote(context: Context, *, version: int, pin: bool, unpin: bool, decision: str) -> None:
    """Make a served version the champion of its kind. The champion before stays loaded for a roll back."""
    settings = load(context.environment())
    with publisher_of(settings) as publisher:
        step = publisher.promote(version, pin=pin, unpin=unpin, decision=decision)
        told(context, settings, publisher, step)
