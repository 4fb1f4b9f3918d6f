"""How long a student takes for a pair, beside another: measured in turns, so that a busy machine slows both."""

from __future__ import annotations

import time
from collections.abc import Sequence

from students.evaluation.scoring import score_pairs
from students.saved import LoadedStudent

ROUNDS = 5
MOST_PAIRS = 32


def pair_ms(
    ours: LoadedStudent, theirs: LoadedStudent, pairs: Sequence[tuple[str, str]]
) -> tuple[float, float]:
    """Return the milliseconds a pair of each student, the best of some rounds, on the first of the pairs."""
    some = pairs[:MOST_PAIRS]
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for place, student in enumerate((ours, theirs)):
            began_s = time.perf_counter()
            score_pairs(student, some)
            best[place] = min(best[place], 1000 * (time.perf_counter() - began_s) / max(1, len(some)))
    return best[0], best[1]
