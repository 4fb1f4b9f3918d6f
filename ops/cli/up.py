"""`relevance up`: start the local stack and keep it running."""

from __future__ import annotations

from pathlib import Path

import click

from ops.cli.context import Context, pass_context
from ops.cli.stack_runner import running_stack, stack_options

TICK_S = 1.0


@click.command(
    epilog="\b\nExamples:\n  relevance up\n  relevance up --workers 2 --no-shop\n"
    "  KAFKA_HOME=~/kafka_2.13-4.1.0 relevance up --broker apache\n"
    "  RELEVANCE_KAFKA=kafka-1:9092,kafka-2:9092 relevance up"
)
@stack_options
@pass_context
def up(
    context: Context, broker: str | None, workers: int | None, no_shop: bool, catalogue: Path | None
) -> None:
    """Start broker, streams, metrics and shop; restart what dies or hangs; stop all on Ctrl-C.

    Ports are free ones where the usual ones are taken. State lies in the run directory: a second `up` goes on
    where the first stopped.
    """
    with running_stack(context, broker=broker, workers=workers, no_shop=no_shop, catalogue=catalogue) as (
        stack,
        stop,
    ):
        context.console.print(f"page        {stack.addresses.dashboard}")
        context.console.print(f"kafka       {stack.kafka}")
        context.console.print("Ctrl-C stops")
        while not stop.wait(TICK_S):
            stack.tick()
