"""What score distribution and chain of thought are worth to each student, beside the teacher itself.

    python -m ops.bench.student_ablation --answers DIR --out DIR [--set shop] [--pairs 2000] [--seeds 3]

DIR of --answers is what `ops.bench.student_judgements` wrote. Evaluated on unseen queries against the shop's truth or
people's grades, over the pairs that the teacher judged. Figures are means over seeds, intervals 95 % over resamples
of queries. Stopped, it goes on: each training's scores are kept. Settings: RELEVANCE_STUDENTS__*.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from ops.bench import student_answers
from ops.bench.machine import announce
from ops.bench.student_answers import SCALE, graded, judged, sets_of
from ops.cli.context import Context
from ops.cli.students.tables import Report, render, report
from ops.evaluation.pairs import ScoredPairs
from ops.files import write_atomically
from ops.settings import load
from students.evaluation import ablation
from students.evaluation.ablation import TEACHER
from students.evaluation.graded import judged_pairs
from students.saved import Paradigm


@click.command(help=__doc__)
@click.option("--answers", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--set", "names", default="shop,esci,chorus", show_default=True)
@click.option(
    "--pairs", default=2_000, show_default=True, type=click.IntRange(1), help="Learned from, the first."
)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1))
@click.option(
    "--paradigm",
    "paradigms",
    multiple=True,
    type=click.Choice(ablation.PARADIGMS),
    default=ablation.PARADIGMS,
)
def main(
    *, answers: Path, out: Path, names: str, pairs: int, seeds: int, paradigms: Sequence[Paradigm]
) -> None:
    """Train what is missing, then print a table for each set."""
    announce("ops.bench.student_ablation")
    settings = load().students
    context = Context()
    for name in sets_of(names):
        train, held_out = student_answers.read(answers, name)
        examples = judged(train[:pairs])
        known, teacher = judged_pairs(graded(held_out), judged(held_out), SCALE)
        cells = ablation.ablate(
            out / name,
            examples,
            known,
            scale=SCALE,
            settings=settings,
            seeds=[settings.seed + number for number in range(seeds)],
            paradigms=paradigms,
            say=click.echo,
        )
        scorers: dict[str, Sequence[ScoredPairs]] = {TEACHER: [teacher]}
        scorers |= {row: [each.scored(known, SCALE) for each in found] for row, found in cells.items()}
        made = report(scorers, ablation.comparisons(scorers), SCALE)
        write_atomically(out / name / "report.json", msgspec.json.format(msgspec.json.encode(made)) + b"\n")
        click.echo(
            f"\n{name}: learned from {len(examples)} judgements of {len({each.query for each in examples})} "
            f"queries, evaluated on {len(known)} pairs of {teacher.queries} others"
        )
        render(context, made)
        for line in kept_of_teacher(made):
            click.echo(line)


def kept_of_teacher(made: Report) -> list[str]:
    """Return what share of the teacher's AUC each student has, a line each; nothing where it is undefined."""
    auc = {row.name: row.cuts["all"].figures["auc"].value for row in made.figures}
    whole = auc[TEACHER]
    return [
        f"{name} keeps {value / whole:.1%} of the teacher's AUC"
        for name, value in auc.items()
        if name != TEACHER and value is not None and whole
    ]


if __name__ == "__main__":
    main()
