"""`relevance students ablate`: what the score distribution and the chain of thought are worth."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from ops.cli.context import CommandError, Context, pass_context
from ops.cli.students.inputs import EXPECTED, FILE, FOLDER, SETS, graded_pairs, read_examples, scale_of
from ops.cli.students.tables import render, report
from ops.evaluation.pairs import ScoredPairs
from ops.files import write_atomically
from students.evaluation import ablation
from students.evaluation.ablation import TEACHER
from students.evaluation.graded import judged_pairs
from students.examples import read
from students.saved import Paradigm

REPORT = "ablation.json"


@click.command(
    epilog="\b\nExamples:\n"
    "  relevance students ablate --judgements judgements.jsonl --set shop --out runs/ablation\n"
    "  relevance students ablate --judgements judgements.jsonl --pairs golden.jsonl --judged golden-judged.jsonl \\\n"
    "      --seeds 5 --out runs/ablation"
)
@click.option(
    "--judgements",
    multiple=True,
    required=True,
    type=FILE,
    help="With chains, as JSON lines; all arms learn them.",
)
@click.option("--pairs", type=FILE, help="Graded pairs of other queries as JSON lines.")
@click.option("--set", "of_set", type=click.Choice(SETS), help="An evaluation set of the project instead.")
@click.option("--judged", type=FILE, help="The teacher's judgements of these pairs: its own row.")
@click.option("--out", required=True, type=FOLDER, help="Every training's scores are kept here.")
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="How many.")
@click.option(
    "--paradigm",
    "paradigms",
    multiple=True,
    type=click.Choice(ablation.PARADIGMS),
    default=ablation.PARADIGMS,
    show_default=True,
)
@pass_context
def ablate(
    context: Context,
    *,
    judgements: tuple[Path, ...],
    pairs: Path | None,
    of_set: str | None,
    judged: Path | None,
    out: Path,
    seeds: int,
    paradigms: tuple[Paradigm, ...],
) -> None:
    """Train each paradigm by hard grades, with the distribution, with the chain, with both; print the table.

    Stopped, the same command goes on. Figures are means over the seeds, with 95 % intervals over queries.
    """
    settings = context.settings()
    try:
        scale = scale_of(settings)
        examples = read_examples(judgements, scale)
        graded = graded_pairs(settings, scale, file=pairs, of_set=of_set)
        scorers: dict[str, list[ScoredPairs]] = {}
        if judged is not None:
            graded, teacher = judged_pairs(graded, list(read(judged, scale)), scale)
            scorers[TEACHER] = [teacher]
        cells = ablation.ablate(
            out,
            examples,
            graded,
            scale=scale,
            settings=settings.students,
            seeds=[settings.students.seed + number for number in range(seeds)],
            paradigms=paradigms,
            say=click.echo,
        )
        scorers |= {name: [each.scored(graded, scale) for each in found] for name, found in cells.items()}
        made = report(scorers, ablation.comparisons(scorers), scale)
    except EXPECTED as error:
        raise CommandError(str(error)) from error
    write_atomically(out / REPORT, msgspec.json.format(msgspec.json.encode(made)) + b"\n")
    render(context, made)
