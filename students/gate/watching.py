"""Judgements as the guards see them: beside a person's grade where there is one, beside the champions elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from students.examples import TrainingExample
from students.gate.guards import Watched
from students.gate.known_scores import KnownScores
from students.gate.suspicion import weights


def watched(
    examples: Sequence[TrainingExample],
    champions: Sequence[KnownScores],
    *,
    people: Mapping[tuple[str, str], str],
) -> list[Watched]:
    """Return the judgements in order. `people` maps (query, item text) to grades; the champions' distributions are
    averaged, and none of them may have learned from the judgements."""
    pairs = [(each.query, each.item_text) for each in examples]
    scale = champions[0].student.description.scale
    distributions = np.mean([each.of(pairs).distributions for each in champions], axis=0)
    evidence = weights(distributions, [scale.position(each.grade) for each in examples])
    made = []
    for each, distribution, nats in zip(examples, distributions, evidence, strict=True):
        grade = people.get((each.query, each.item_text))
        made.append(
            Watched(
                query=each.query,
                grade=each.grade,
                disagreement=float(grade != each.grade) if grade else float(nats),
                by_people=grade is not None,
                expected=tuple(map(float, distribution)),
            )
        )
    return made
