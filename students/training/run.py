"""A whole training run in a folder: begun, gone on with or already done; ends with a saved student."""

from __future__ import annotations

import dataclasses
import resource
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import torch

from ops.files import write_atomically
from ops.settings import Students as Settings
from students import saved
from students.evaluation.graded import GradedPair, point_figures, scored_by
from students.examples import TrainingExample
from students.grades import GradeScale
from students.saved import Description, LoadedStudent, Paradigm
from students.tokenisation import Limits
from students.training import curves, run_folder
from students.training.loop import ALONE, train
from students.training.parallel import Processes
from students.training.run_folder import Finished


def described(paradigm: Paradigm, scale: GradeScale, settings: Settings) -> Description:
    """Return the student that the settings ask for. Raises ValueError for limits that leave an item no room."""
    return Description(
        paradigm=paradigm,
        scale=scale,
        limits=Limits(query=settings.max_query_tokens, input=settings.max_tokens),
        dimensions=settings.dimensions if paradigm == "representation" else 0,
        shared_towers=settings.shared_towers,
    )


def untrained(description: Description, settings: Settings) -> LoadedStudent:
    """Return a new student of the settings' encoder, its heads drawn by the settings' seed. Raises EncoderError."""
    torch.manual_seed(settings.seed)
    layers = {
        "interaction": settings.interaction_layers,
        "representation": settings.representation_layers,
    }
    return saved.new_student(description, encoder=settings.encoder, layers=layers[description.paradigm])


def run(
    out: Path,
    examples: Sequence[TrainingExample],
    *,
    description: Description,
    settings: Settings,
    start: Path | None = None,
    watched: Sequence[GradedPair] = (),
    processes: Processes = ALONE,
    say: Callable[[str], None] = lambda _: None,
) -> Finished:
    """Train a student in the folder `out` and return what the run was; a finished run is returned at once.

    `start` is the folder of a student to go on from, of the same description; None begins with the settings'
    encoder. `watched` pairs are scored after each epoch. Raises RunFolderError, StudentFolderError, EncoderError,
    TrainingError, CheckpointError, ValueError for a watched grade that is not on the scale.
    """
    record = run_folder.record(
        start=start or run_folder.start_of(settings),
        examples=examples,
        description=description,
        settings=settings,
        processes=processes.count,
    )
    if processes.first:
        run_folder.begin(out, record)
    if (done := run_folder.finished(out)) is not None:
        say(f"{out} is trained already")
        return done
    if start is None:
        student = untrained(description, settings)
    else:
        student = saved.load(start)
        if student.description != description:
            raise run_folder.RunFolderError(
                f"expected a student to go on from like {description}, got {student.description}"
            )
    trained = train(
        student,
        examples,
        settings=settings,
        state=out / run_folder.CHECKPOINT,
        processes=processes,
        validate=(lambda held: point_figures(scored_by(held, watched))) if watched else None,
        say=say,
    )
    made = Finished(
        record=record,
        examples=len(examples),
        queries=len({each.query for each in examples}),
        steps=trained.steps,
        resumed_from=trained.resumed_from,
        final_loss=trained.curve.points[-1].loss,
        watched=trained.curve.checks[-1].figures if trained.curve.checks else {},
        evidence_lost=dataclasses.asdict(trained.lost),
        seconds=round(trained.seconds, 1),
        pairs_per_s=round(trained.pairs_per_s, 1),
        peak_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    )
    if processes.first:
        saved.save(student, out / run_folder.STUDENT)
        curves.save(out, trained.curve)
        write_atomically(out / run_folder.DONE, msgspec.json.format(msgspec.json.encode(made)) + b"\n")
        (out / run_folder.CHECKPOINT).unlink()
    return made
