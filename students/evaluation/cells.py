"""Trained and scored once, kept in a file: what a table of many trainings is made of, so that it can be stopped.

A cell is one training on one set of examples under one seed, and its scores of the evaluation's pairs.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from ops.evaluation.pairs import ScoredPairs
from ops.files import write_atomically
from ops.settings import Students as Settings
from students import saved
from students.evaluation.graded import GradedPair, scored
from students.evaluation.scoring import Scores, score_pairs
from students.examples import TrainingExample
from students.grades import GradeScale
from students.saved import Paradigm
from students.training import run_folder
from students.training.run import described, run
from students.training.run_folder import RunFolderError, RunRecord


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One training: what it was begun with, on which pairs it was scored, its scores and distributions of them."""

    name: str
    record: RunRecord
    pairs: str
    scores: list[float]
    distributions: list[list[float]]
    steps: int
    seconds: float
    pairs_per_s: float

    def scored(self, pairs: Sequence[GradedPair], scale: GradeScale) -> ScoredPairs:
        """Return the pairs that it was scored on with its scores."""
        found = Scores(
            scores=np.array(self.scores, dtype=np.float32),
            distributions=np.array(self.distributions, dtype=np.float32),
        )
        return scored(pairs, found, scale)


def pairs_fingerprint(pairs: Sequence[GradedPair]) -> str:
    """Return what names these pairs in this order: 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for each in pairs:
        digest.update(
            msgspec.json.encode((each.query, each.item_text, each.grade, each.traffic_class)) + b"\n"
        )
    return digest.hexdigest()


def cell(
    folder: Path,
    *,
    name: str,
    paradigm: Paradigm,
    examples: Sequence[TrainingExample],
    pairs: Sequence[GradedPair],
    scale: GradeScale,
    settings: Settings,
    say: Callable[[str], None] = lambda _: None,
) -> Cell:
    """Return a cell of the settings' seed, trained if `folder` does not hold it; a stopped training goes on.

    The student itself is not kept. Raises RunFolderError if the folder's cell of this name was made otherwise, and
    what `students.training.run.run` raises.
    """
    title = f"{paradigm}-{name}-{settings.seed}"
    file, out = folder / f"{title}.json", folder / title
    description = described(paradigm, scale, settings)
    if file.exists():
        found = msgspec.json.decode(file.read_bytes(), type=Cell)
        wanted = run_folder.record(
            start=run_folder.start_of(settings),
            examples=examples,
            description=description,
            settings=settings,
            processes=1,
        )
        if (found.record, found.pairs) != (wanted, pairs_fingerprint(pairs)):
            raise RunFolderError(
                f"{file} was made of other examples, pairs or settings: name another folder, or delete it"
            )
        return found
    say(f"{title}: {len(examples):,} examples")
    done = run(out, examples, description=description, settings=settings, say=say)
    student = saved.load(out / run_folder.STUDENT)
    scores = score_pairs(student, [(pair.query, pair.item_text) for pair in pairs])
    made = Cell(
        name=name,
        record=done.record,
        pairs=pairs_fingerprint(pairs),
        scores=scores.scores.tolist(),
        distributions=scores.distributions.tolist(),
        steps=done.steps,
        seconds=done.seconds,
        pairs_per_s=done.pairs_per_s,
    )
    write_atomically(file, msgspec.json.encode(made))
    shutil.rmtree(out / run_folder.STUDENT)
    return made
