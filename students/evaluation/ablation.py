"""What each stream of the teacher is worth: both paradigms, taught by hard grades alone, by the score distribution,
by the chain of thought, by both, over several seeds.

All arms see the same pairs with the same grades. The chain teaches the interaction student by token tags, the
representation student by its pooling attention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ops.evaluation.pairs import ScoredPairs
from ops.settings import Students as Settings
from students.evaluation.cells import Cell, cell
from students.evaluation.graded import GradedPair
from students.examples import TrainingExample, stripped
from students.grades import GradeScale
from students.saved import Paradigm

PARADIGMS: Final[tuple[Paradigm, ...]] = ("interaction", "representation")
#: Arm to (score distribution, chain of thought).
ARMS: Final[Mapping[str, tuple[bool, bool]]] = {
    "hard": (False, False),
    "distribution": (True, False),
    "chain": (False, True),
    "both": (True, True),
}
TEACHER: Final = "teacher"


class AblationError(ValueError):
    """An ablation cannot be made of this. The message says why."""


def ablate(
    folder: Path,
    examples: Sequence[TrainingExample],
    pairs: Sequence[GradedPair],
    *,
    scale: GradeScale,
    settings: Settings,
    seeds: Sequence[int],
    paradigms: Sequence[Paradigm] = PARADIGMS,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, list[Cell]]:
    """Return the cells of each row, named `paradigm arm`, seeds in order; those that `folder` holds are not made.

    Raises AblationError if a query is both learned from and evaluated on, or no example has a stream;
    and what `students.evaluation.cells.cell` raises.
    """
    refuse_overlap(examples, pairs)
    for stream in ("distribution", "evidence"):
        if all(getattr(each, stream) is None for each in examples):
            raise AblationError(
                f"expected judgements with {stream}, none of {len(examples)} examples has any"
            )
    found: dict[str, list[Cell]] = {}
    for seed in seeds:
        for paradigm in paradigms:
            for arm, (distribution, chain) in ARMS.items():
                made = cell(
                    folder,
                    name=arm,
                    paradigm=paradigm,
                    examples=stripped(examples, distribution=distribution, chain=chain),
                    pairs=pairs,
                    scale=scale,
                    settings=settings.model_copy(update={"seed": seed}),
                    say=say,
                )
                found.setdefault(f"{paradigm} {arm}", []).append(made)
    return found


def refuse_overlap(examples: Sequence[TrainingExample], pairs: Sequence[GradedPair]) -> None:
    """Raise AblationError if a query is both learned from and evaluated on."""
    if shared := sorted({each.query for each in examples} & {pair.query for pair in pairs}):
        raise AblationError(
            f"{len(shared)} queries are both learned from and evaluated on, such as {shared[0]!r}: split by query"
        )


def comparisons(scorers: Mapping[str, Sequence[ScoredPairs]]) -> list[tuple[str, str]]:
    """Return which rows are compared: every arm with hard grades of its paradigm, both streams with the teacher."""
    wanted = [
        (f"{paradigm} {arm}", f"{paradigm} hard") for paradigm in PARADIGMS for arm in ARMS if arm != "hard"
    ] + [(f"{paradigm} both", TEACHER) for paradigm in PARADIGMS]
    return [(ours, theirs) for ours, theirs in wanted if ours in scorers and theirs in scorers]
