"""A student's scores of pairs, each computed once: a champion is asked for the same ones at each update."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from students.evaluation.scoring import Floats, Scores, score_pairs
from students.saved import LoadedStudent

#: Beyond so many pairs all are forgotten.
MOST_KNOWN = 50_000


class KnownScores:
    """The scores of `student`, whose weights must not change; `bf16` as in `score_pairs`."""

    def __init__(self, student: LoadedStudent, *, bf16: bool = False) -> None:
        self.student = student
        self._bf16 = bf16
        self._known: dict[tuple[str, str], tuple[float, Floats]] = {}

    def of(self, pairs: Sequence[tuple[str, str]]) -> Scores:
        """Return the scores of (query, item text) pairs in order. Raises TextError."""
        if len(self._known) > MOST_KNOWN:
            self._known.clear()
        missing = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        found = score_pairs(self.student, missing, bf16=self._bf16)
        for place, pair in enumerate(missing):
            self._known[pair] = float(found.scores[place]), found.distributions[place]
        labels = len(self.student.description.scale.labels)
        return Scores(
            scores=np.array([self._known[pair][0] for pair in pairs], dtype=np.float32),
            distributions=np.array([self._known[pair][1] for pair in pairs], dtype=np.float32).reshape(
                -1, labels
            ),
        )
