"""`relevance students train`: a student from judgements, in a run folder, resumable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from ops.cli.context import CommandError, Context, pass_context
from ops.cli.students.inputs import EXPECTED, FILE, FOLDER, read_examples, scale_of
from students import saved
from students.evaluation.ablation import refuse_overlap
from students.examples import read_labelled
from students.saved import Paradigm
from students.training import run_folder
from students.training.parallel import joined
from students.training.run import described, run


@click.command(
    epilog="\b\nExamples:\n"
    "  relevance students train --examples judgements.jsonl --out runs/first\n"
    "  relevance students train --paradigm representation --examples judgements.jsonl --examples people.jsonl \\\n"
    "      --watch held-out.jsonl --out runs/towers\n"
    "  torchrun --nproc-per-node 4 -m ops.cli.main students train --examples judgements.jsonl --out runs/gpus\n"
    "\n\b\nSettings: section [students] of relevance.toml, such as RELEVANCE_STUDENTS__EPOCHS=3 or\n"
    "RELEVANCE_STUDENTS__LOSSES__MARGIN_MSE=0.5; `relevance settings` lists them."
)
@click.option(
    "--examples",
    multiple=True,
    required=True,
    type=FILE,
    help="JSON lines: judgements, pairs that people graded, or both. May be given again.",
)
@click.option("--out", required=True, type=FOLDER, help="The run's folder.")
@click.option(
    "--paradigm",
    type=click.Choice(["interaction", "representation"]),
    default="interaction",
    show_default=True,
    help="Cross-encoder, or two towers.",
)
@click.option("--start", type=FOLDER, help="A student to go on from, instead of the encoder alone.")
@click.option("--watch", type=FILE, help="Graded pairs of other queries, scored after each epoch.")
@pass_context
def train(
    context: Context,
    *,
    examples: tuple[Path, ...],
    out: Path,
    paradigm: Paradigm,
    start: Path | None,
    watch: Path | None,
) -> None:
    """Train a student.

    After Ctrl-C, a crash or a reboot the same command goes on from the last checkpoint. OUT then holds the student,
    the run's settings and figures, and its curves.
    """
    settings = context.settings().students
    try:
        scale = scale_of(context.settings())
        learned = read_examples(examples, scale)
        watched = [] if watch is None else read_labelled(watch, scale)
        refuse_overlap(learned, watched)
        description = described(paradigm, scale, settings) if start is None else saved.load(start).description
        with joined(settings.device) as processes:
            say: Callable[[str], None] = click.echo if processes.first else lambda _: None
            made = run(
                out,
                learned,
                description=description,
                settings=settings,
                start=start,
                watched=watched,
                processes=processes,
                say=say,
            )
            say(
                f"{made.steps:,} steps, {made.seconds:.0f} s, {made.pairs_per_s:.1f} pairs/s, loss "
                f"{made.final_loss:.4f}, {made.peak_mb:,.0f} MB at most: {out / run_folder.STUDENT}"
            )
    except EXPECTED as error:
        raise CommandError(str(error)) from error
    except KeyboardInterrupt:
        click.echo("\nstopped; the same command goes on from the last checkpoint", err=True)
        raise
