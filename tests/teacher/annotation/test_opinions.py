from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teacher.annotation.opinions import best_chain, chain_lines, opinion
from tests.teacher.annotation.samples import LABELS, judgement, verdict


def test_the_distribution_is_the_mean_over_the_samples() -> None:
    found = opinion("a", [judgement("E", sure=0.7), judgement("S", sure=0.4)], samples=2, labels=LABELS)
    assert found.grades == pytest.approx({"E": 0.45, "S": 0.25, "C": 0.15, "I": 0.15})
    assert (found.grade, found.self_agreement) == ("E", 0.5)


def test_a_refused_sample_agrees_with_nothing() -> None:
    found = opinion("a", [judgement("C"), judgement("C")], samples=3, labels=LABELS)
    assert found.grade == "C"
    assert found.self_agreement == pytest.approx(2 / 3)
    assert opinion("a", [], samples=3, labels=LABELS).grade is None


def test_more_judgements_than_samples_are_an_error() -> None:
    with pytest.raises(ValueError, match="expected at most 1 judgements, got 2"):
        opinion("a", [judgement(), judgement()], samples=1, labels=LABELS)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(LABELS), st.floats(0.26, 1)), min_size=1, max_size=6),
    st.integers(0, 3),
)
def test_an_opinion_is_a_distribution_and_its_grade_the_likeliest(
    said: Sequence[tuple[str, float]], refused: int
) -> None:
    judgements = [judgement(grade, sure=sure) for grade, sure in said]
    found = opinion("a", judgements, samples=len(said) + refused, labels=LABELS)
    assert sum(found.grades.values()) == pytest.approx(1)
    assert found.grade is not None
    assert found.grades[found.grade] == max(found.grades.values())
    assert 0 <= found.self_agreement <= len(said) / (len(said) + refused)


def test_the_best_chain_has_the_most_located_evidence_then_the_least_unlocated() -> None:
    two = (verdict(), verdict("brand", query_words="red", item_words="Norvik"))
    rich = judgement("E", verdicts=two, unlocated=1)
    clean = judgement("E", verdicts=two, unlocated=0, completion_tokens=40)
    short = judgement("E", verdicts=two, unlocated=0, completion_tokens=30)
    other = judgement("S", verdicts=(*two, verdict("size")))
    assert best_chain([rich, clean, judgement("E"), other], "E") is clean
    assert best_chain([clean, short], "E") is short
    assert best_chain([rich, clean], "I") is None


def test_only_located_words_are_taught() -> None:
    lines = chain_lines(
        judgement(
            verdicts=[
                verdict(),
                verdict("brand", query_words="acme", located=False),
                verdict("size", said="unstated", query_words="red", item_words=""),
            ]
        )
    )
    assert [(line.subtask, line.query_words, line.item_words) for line in lines] == [
        ("category", "kettle", "kettle"),
        ("size", "red", ""),
    ]
