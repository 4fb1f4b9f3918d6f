"""What the commands read: the scale, examples, pairs to evaluate on, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ops.settings import Settings
from ops.shop.judged_pairs import evaluation_set
from students.default_encoder import EncoderError
from students.evaluation.ablation import AblationError
from students.evaluation.graded import GradedPair
from students.examples import ExampleError, TrainingExample, read, read_labelled
from students.grades import GradeScale
from students.saved import StudentFolderError
from students.training.checkpoint import CheckpointError
from students.training.loop import TrainingError
from students.training.run_folder import RunFolderError
from teacher import policy as policies
from teacher.policy import PolicyError

#: What files, folders and settings can do wrong.
EXPECTED = (
    AblationError,
    CheckpointError,
    EncoderError,
    ExampleError,
    PolicyError,
    RunFolderError,
    StudentFolderError,
    TrainingError,
)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
SETS = ("shop", "esci", "chorus")


def scale_of(settings: Settings) -> GradeScale:
    """Return the scale that the teacher judges on. Raises PolicyError."""
    return GradeScale.of(policies.configured(settings.teacher).gains)


def read_examples(files: Sequence[Path], scale: GradeScale) -> list[TrainingExample]:
    """Return the examples of all files. Raises ExampleError."""
    return [example for file in files for example in read(file, scale)]


def graded_pairs(
    settings: Settings, scale: GradeScale, *, file: Path | None, of_set: str | None
) -> Sequence[GradedPair]:
    """Return pairs of a file, or of an evaluation set. Raises click.UsageError unless one is named, ExampleError."""
    if (file is None) == (of_set is None):
        raise click.UsageError("give --pairs or --set, one of them")
    if file is not None:
        return read_labelled(file, scale)
    return evaluation_set(str(of_set), settings.data, sampled_queries=120, per_query=12)
