"""`relevance students rebuild`: a version made again from the log of judgements."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from ops.cli.context import CommandError, Context, pass_context
from ops.cli.students.follow import FOLLOWING
from ops.cli.students.inputs import FILE, FOLDER
from ops.endpoints import kafka_address
from ops.kafka import consumer
from ops.settings import load
from students import saved
from students.incremental import lineage as lineages
from students.incremental.checkpoint import FIRST
from students.incremental.golden import read_golden
from students.incremental.rebuild import TOLERANCE, RebuildError, kafka_log
from students.incremental.rebuild import rebuild as rebuilt_from
from students.incremental.trainer import folder_of


@click.command(epilog="\b\nExamples:\n  relevance students rebuild 12 --out runs/rebuilt-12")
@click.argument("version", type=click.IntRange(1))
@click.option("--out", required=True, type=FOLDER, help="The student is written here.")
@click.option("--golden", type=FILE, help="The golden set that the version was judged by [gate.golden].")
@pass_context
def rebuild(context: Context, *, version: int, out: Path, golden: Path | None) -> None:
    """Train a version of the trainer again, with all its ancestors, from its lineage and the topic's log.

    On the machine that made it the weights are the same bit by bit. Exit code 1 if its golden figures are others.
    """
    settings = load(context.environment({"GATE__GOLDEN": golden and golden.resolve()}))
    folder = folder_of(settings)
    if settings.gate.golden is None:
        raise click.UsageError("name --golden, or set gate.golden")
    try:
        update = lineages.update_of(folder, version)
        scale = saved.load(folder / FIRST).description.scale
        reading = consumer(settings, kafka_address(settings))
        with contextlib.closing(reading):
            made = rebuilt_from(
                folder,
                update,
                log=kafka_log(reading),
                golden=read_golden(settings.gate.golden, scale),
                say=click.echo,
            )
    except (*FOLLOWING, RebuildError) as error:
        raise CommandError(str(error)) from error
    saved.save(made.student, out)
    told = ", ".join(f"{name} {value:.4f}" for name, value in made.golden.items())
    click.echo(f"update {update}, golden {told}: {out}")
    if made.same:
        click.echo("the weights are those of the version, bit by bit")
    elif made.close:
        click.echo(f"the weights differ, golden figures are within {TOLERANCE:g} of the version's")
    else:
        raise CommandError(
            f"golden figures are not within {TOLERANCE:g} of the version's: torch or settings are others"
        )
