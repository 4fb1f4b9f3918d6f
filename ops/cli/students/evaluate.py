"""`relevance students evaluate`: a student's figures on graded pairs, against another student or the teacher."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from ops.cli.context import CommandError, Context, pass_context
from ops.cli.students.inputs import EXPECTED, FILE, FOLDER, SETS, graded_pairs, scale_of
from ops.cli.students.tables import render, report
from ops.evaluation.pairs import ScoredPairs
from students import saved
from students.evaluation.graded import judged_pairs, scored_by
from students.examples import ExampleError, read

STUDENT, AGAINST, TEACHER = "student", "other student", "teacher"


@click.command(
    epilog="\b\nExamples:\n  relevance students evaluate --student runs/first/student --set shop\n"
    "  relevance students evaluate --student runs/second/student --against runs/first/student --pairs golden.jsonl\n"
    "  relevance students evaluate --student runs/first/student --pairs golden.jsonl --judged judgements.jsonl --json"
)
@click.option("--student", required=True, type=FOLDER, help="`student` of a run's folder.")
@click.option("--against", type=FOLDER, help="Another student, to be compared pair by pair.")
@click.option("--pairs", type=FILE, help="Graded pairs as JSON lines; traffic_class makes cuts.")
@click.option("--set", "of_set", type=click.Choice(SETS), help="An evaluation set of the project instead.")
@click.option("--judged", type=FILE, help="The teacher's judgements of these pairs: its own row.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_context
def evaluate(
    context: Context,
    *,
    student: Path,
    against: Path | None,
    pairs: Path | None,
    of_set: str | None,
    judged: Path | None,
    as_json: bool,
) -> None:
    """Print AUC, PR-AUC, nDCG@10, Spearman, calibration and accuracy, overall and by class of traffic.

    Intervals are 95 %, by resampling queries; differences are paired. With --judged, pairs that the teacher has
    not judged are left out of every row.
    """
    settings = context.settings()
    try:
        scale = scale_of(settings)
        graded = graded_pairs(settings, scale, file=pairs, of_set=of_set)
        scorers: dict[str, list[ScoredPairs]] = {}
        if judged is not None:
            graded, teacher = judged_pairs(graded, list(read(judged, scale)), scale)
            scorers[TEACHER] = [teacher]
        if not graded:
            raise ExampleError("expected pairs to evaluate on, got none")
        for name, folder in ((STUDENT, student), (AGAINST, against)):
            if folder is not None:
                loaded = saved.load(folder)
                if loaded.description.scale != scale:
                    raise ExampleError(
                        f"{folder} grades by {loaded.description.scale.by_label}, the settings by {scale.by_label}"
                    )
                scorers[name] = [scored_by(loaded, graded)]
        made = report(scorers, [(STUDENT, other) for other in scorers if other != STUDENT], scale)
    except EXPECTED as error:
        raise CommandError(str(error)) from error
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(made)))
        return
    render(context, made, by_grade=True)
