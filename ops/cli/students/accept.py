"""`relevance students accept`: judgements that a guard has set aside are learned from after all."""

from __future__ import annotations

import click

from ops.cli.context import Context, pass_context
from ops.files import write_atomically
from students.incremental.trainer import ACCEPT, folder_of


@click.command(epilog="\b\nExamples:\n  relevance students accept")
@pass_context
def accept(context: Context) -> None:
    """Let go of an alarm: with the next update the trainer takes in what it has set aside, and compares later
    judgements with those.

    For a change that is wanted, such as another teacher or other sampling. Poison is better left where it is.
    """
    folder = folder_of(context.settings())
    write_atomically(folder / ACCEPT, b"")
    context.console.print(f"the trainer in {folder} takes in what it has set aside with its next update")
