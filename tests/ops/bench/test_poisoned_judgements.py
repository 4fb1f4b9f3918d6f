"""Poison: what a flipped judgement is, and how many there are."""

from __future__ import annotations

import random

import pytest

from ops.bench.poisoned_judgements import flipped, poison
from students.grades import ESCI
from tests.students.incremental.samples import judgements


def test_a_flipped_judgement_says_the_opposite_and_is_the_same_pair() -> None:
    given = judgements(1, seed=1)[0]
    turned = flipped(given, ESCI)
    assert [turned.grades[label] for label in ESCI.labels] == pytest.approx(
        [given.grades[label] for label in reversed(ESCI.labels)]
    )
    assert (given.grade, turned.grade) in {("E", "I"), ("I", "E")}
    gains = dict(zip(ESCI.labels, ESCI.gains, strict=True))
    assert turned.relevance_score == pytest.approx(
        sum(share * gains[label] for label, share in turned.grades.items())
    )
    assert (turned.query, turned.item_id) == (given.query, given.item_id)
    back = flipped(turned, ESCI)
    assert back.grade == given.grade
    assert back.grades == pytest.approx(given.grades)


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_a_share_is_flipped(share: float) -> None:
    given = judgements(2_000, seed=2)
    found = poison(given, ESCI, share=share, rng=random.Random(1))
    changed = sum(one.grade != other.grade for one, other in zip(given, found, strict=True))
    assert changed / len(given) == pytest.approx(share, abs=0.03)
