"""More pairs judged by the teacher make a better student: the curve, against people's hard labels alone.

    python -m ops.bench.student_learning_curve --answers DIR --out DIR [--set shop] [--sizes 500,2000,8000]

DIR of --answers is what `ops.bench.student_judgements` wrote. Rows: hard labels of the first --labels pairs alone
(people's grades; the shop's truth stands in for people); the first n judgements with both streams; both together,
a pair's hard grade then being the person's. Every training takes at least --steps optimiser steps, so that a small
set is not merely seen too seldom. Stopped, it goes on. Settings: RELEVANCE_STUDENTS__*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from ops.bench import student_answers
from ops.bench.machine import announce
from ops.bench.student_answers import SCALE, by_people, graded, judged, sets_of
from ops.bench.teacher_quality import Answer
from ops.cli.context import Context
from ops.cli.students.tables import render, report
from ops.evaluation.pairs import ScoredPairs
from ops.files import write_atomically
from ops.settings import Students as Settings
from ops.settings import load
from students.evaluation.ablation import PARADIGMS, TEACHER, refuse_overlap
from students.evaluation.cells import cell
from students.evaluation.graded import judged_pairs
from students.examples import TrainingExample
from students.saved import Paradigm


@click.command(help=__doc__)
@click.option("--answers", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--set", "names", default="shop,esci,chorus", show_default=True)
@click.option("--sizes", default="500,2000,8000", show_default=True, help="Judgements.")
@click.option(
    "--labels", default=500, show_default=True, type=click.IntRange(1), help="Pairs with hard labels."
)
@click.option("--steps", default=200, show_default=True, type=click.IntRange(1))
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--paradigm", type=click.Choice(PARADIGMS), default="interaction", show_default=True)
def main(
    *,
    answers: Path,
    out: Path,
    names: str,
    sizes: str,
    labels: int,
    steps: int,
    seeds: int,
    paradigm: Paradigm,
) -> None:
    """Train what is missing, then print a table for each set."""
    announce("ops.bench.student_learning_curve")
    base = load().students
    context = Context()
    for name in sets_of(names):
        train, held_out = student_answers.read(answers, name)
        known, teacher = judged_pairs(graded(held_out), judged(held_out), SCALE)
        scorers: dict[str, Sequence[ScoredPairs]] = {TEACHER: [teacher]}
        for row, examples in rows_of(
            train, labels=labels, sizes=[int(size) for size in sizes.split(",")]
        ).items():
            refuse_overlap(examples, known)
            runs = []
            for seed in range(base.seed, base.seed + seeds):
                settings = at_least(base, steps, len(examples)).model_copy(update={"seed": seed})
                made = cell(
                    out / name,
                    name=row.replace(" ", "-"),
                    paradigm=paradigm,
                    examples=examples,
                    pairs=known,
                    scale=SCALE,
                    settings=settings,
                    say=click.echo,
                )
                runs.append(made.scored(known, SCALE))
            scorers[row] = runs
        first = f"people {labels}"
        found = report(scorers, [(row, first) for row in scorers if row not in (first, TEACHER)], SCALE)
        write_atomically(out / name / "report.json", msgspec.json.format(msgspec.json.encode(found)) + b"\n")
        click.echo(
            f"\n{name}, {paradigm} student: evaluated on {len(known)} pairs of {teacher.queries} unseen queries"
        )
        render(context, found)


def rows_of(
    train: Sequence[Answer], *, labels: int, sizes: Sequence[int]
) -> dict[str, list[TrainingExample]]:
    """Return each row's examples; sizes beyond what there is become what there is."""
    people = by_people(train[:labels])
    grade_of = {(each.query, each.item_text): each.grade for each in people}
    found = {f"people {len(people)}": people}
    for size in dict.fromkeys(min(size, len(train)) for size in sizes):
        judgements = judged(train[:size])
        found[f"teacher {size}"] = judgements
        mended = [
            msgspec.structs.replace(each, grade=grade_of.get((each.query, each.item_text), each.grade))
            for each in judgements
        ]
        seen = {(each.query, each.item_text) for each in judgements}
        rest = [each for each in people if (each.query, each.item_text) not in seen]
        found[f"people {len(people)} teacher {size}"] = mended + rest
    return found


def at_least(settings: Settings, steps: int, examples: int) -> Settings:
    """Return settings with as many epochs as the steps take."""
    per_epoch = math.ceil(math.ceil(examples / settings.batch_pairs) / settings.accumulation)
    return settings.model_copy(update={"epochs": max(settings.epochs, math.ceil(steps / per_epoch))})


if __name__ == "__main__":
    main()
