"""Scored pairs with their known grades: what every metric of a teacher or a student is computed from."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class ScoredPairs:
    """n pairs; every array has shape [n].

    `labels` and `gains` are the grade scale, best first. `query` numbers the queries from 0 without a gap, `score`
    is in [0, 1], `grade` and `predicted` are positions on the scale; `predicted` is None for a scorer without
    grades. `stratum` names the query's class of traffic, empty where there is none. A pair is relevant if it has
    the best grade.
    """

    labels: tuple[str, ...]
    gains: Floats
    query: Ints
    score: Floats
    grade: Ints
    predicted: Ints | None
    stratum: npt.NDArray[np.str_]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.query)

    @property
    def queries(self) -> int:
        """Return the number of queries."""
        return int(self.query.max()) + 1 if len(self) else 0

    @property
    def relevant(self) -> Bools:
        """Tell which pairs have the best grade."""
        found: Bools = self.grade == 0
        return found

    @property
    def gain(self) -> Floats:
        """Return each pair's gain, in [0, 1]."""
        found: Floats = self.gains[self.grade]
        return found

    def with_scores(self, score: Floats) -> ScoredPairs:
        """Return the pairs under other scores. Raises ValueError as `scored_pairs` does."""
        return dataclasses.replace(self, score=_checked_scores(score, len(self)))

    def select(self, kept: Bools) -> ScoredPairs:
        """Return the pairs where `kept`, shape [n], holds; their queries are numbered anew, in the same order."""
        return dataclasses.replace(
            self,
            query=_numbered(self.query[kept]),
            score=self.score[kept],
            grade=self.grade[kept],
            predicted=None if self.predicted is None else self.predicted[kept],
            stratum=self.stratum[kept],
        )

    def cuts(self) -> dict[str, ScoredPairs]:
        """Return `all` pairs, and those of each stratum there is, by its name."""
        names = sorted(set(self.stratum.tolist()) - {""})
        return {"all": self} | {name: self.select(self.stratum == name) for name in names}


def scored_pairs(
    *,
    gains: Mapping[str, float],
    queries: Sequence[Hashable],
    scores: Sequence[float] | Floats,
    grades: Sequence[str],
    predicted: Sequence[str] | None = None,
    strata: Sequence[str] | None = None,
) -> ScoredPairs:
    """Return pairs from parallel columns of length n; `gains` maps the scale's labels, best first, to gains.

    Raises ValueError for columns of different lengths, a score that is not a number in [0, 1], a label that is
    not on the scale.

    >>> pairs = scored_pairs(gains={"Yes": 1, "No": 0}, queries=["a", "a"], scores=[0.9, 0.2], grades=["Yes", "No"])
    >>> len(pairs), pairs.queries, pairs.relevant.tolist()
    (2, 1, [True, False])
    """
    columns = {"scores": scores, "grades": grades, "predicted": predicted, "strata": strata}
    for name, column in columns.items():
        if column is not None and len(column) != len(queries):
            raise ValueError(f"expected {len(queries)} {name}, one for each pair, got {len(column)}")
    labels = tuple(gains)
    return ScoredPairs(
        labels=labels,
        gains=np.array([gains[label] for label in labels], dtype=np.float64),
        query=_numbered(queries),
        score=_checked_scores(np.asarray(scores, dtype=np.float64), len(queries)),
        grade=_positions(grades, labels),
        predicted=None if predicted is None else _positions(predicted, labels),
        stratum=np.array([""] * len(queries) if strata is None else list(strata), dtype=np.str_),
    )


def _numbered(values: Sequence[Hashable] | Ints) -> Ints:
    listed: list[Any] = values.tolist() if isinstance(values, np.ndarray) else list(values)
    numbers = {value: number for number, value in enumerate(dict.fromkeys(listed))}
    return np.array([numbers[value] for value in listed], dtype=np.int64)


def _checked_scores(score: Floats, count: int) -> Floats:
    if score.shape != (count,):
        raise ValueError(f"expected {count} scores, one for each pair, got an array of shape {score.shape}")
    wrong = ~((score >= 0) & (score <= 1))
    if wrong.any():
        raise ValueError(
            f"expected scores in [0, 1], got {score[wrong][0]} at {int(np.flatnonzero(wrong)[0])}"
        )
    return score


def _positions(found: Sequence[str], labels: tuple[str, ...]) -> Ints:
    places = {label: place for place, label in enumerate(labels)}
    for label in found:
        if label not in places:
            raise ValueError(f"expected grades among {', '.join(labels)}, got {label!r}")
    return np.array([places[label] for label in found], dtype=np.int64)
