from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from students import saved
from students.evaluation.scoring import score_pairs
from students.gate import known_scores
from students.gate.known_scores import KnownScores
from students.gate.suspicion import weights
from students.gate.watching import watched
from tests.students.incremental.samples import judged, write_first
from tests.students.samples import write_small_encoder


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> KnownScores:
    folder: Path = tmp_path_factory.mktemp("student")
    return KnownScores(saved.load(write_first(folder / "first", write_small_encoder(folder / "encoder"))))


def test_scores_are_the_students_and_asked_once(known: KnownScores, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [("red kettle", "red pot"), ("blue mug", "nova"), ("red kettle", "red pot"), ("", "")]
    expected = score_pairs(known.student, pairs)
    found = known.of(pairs)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    np.testing.assert_allclose(found.distributions, expected.distributions, atol=1e-6)
    asked: list[int] = []

    def counting(student: object, given: list[tuple[str, str]], *, bf16: bool) -> object:
        asked.append(len(given))
        return score_pairs(known.student, given, bf16=bf16)

    monkeypatch.setattr(known_scores, "score_pairs", counting)
    np.testing.assert_array_equal(known.of(pairs[::-1]).scores, found.scores[::-1])
    assert known.of([*pairs, ("new", "pair")]).scores.shape == (5,)
    assert asked == [0, 1]
    assert known.of([]).distributions.shape == (0, 4)


def test_a_judgement_is_beside_a_person_where_there_is_one(known: KnownScores) -> None:
    examples = [each.example for each in judged(6)]
    first, second = examples[:2]
    people = {(first.query, first.item_text): first.grade, (second.query, second.item_text): "C"}
    found = watched(examples, [known, known], people=people)
    assert [each.by_people for each in found] == [True, True, False, False, False, False]
    assert [each.disagreement for each in found[:2]] == [0.0, 1.0]
    scale = known.student.description.scale
    for each, seen in zip(examples[2:], found[2:], strict=True):
        given = known.of([(each.query, each.item_text)]).distributions[0]
        assert seen.disagreement == pytest.approx(weights([given], [scale.position(each.grade)])[0], abs=1e-6)
        assert seen.expected == pytest.approx(given, abs=1e-6)
