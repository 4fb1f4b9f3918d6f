"""The score's arithmetic against values computed by hand, and where in an answer the label is looked for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teacher.policy import default
from teacher.scoring import (
    ScoringError,
    Token,
    grade_distribution,
    label_place,
    log_sum,
    read_grades,
    relevance_score,
)

LABELS = ("E", "S", "C", "I")
logprobs = st.floats(min_value=-30, max_value=0)


def test_four_grades_by_hand() -> None:
    # Of the mass 0.8 that lies on labels: 0.4, 0.2, 0.1, 0.1.
    returned = {
        " E": math.log(0.4),
        " S": math.log(0.2),
        " C": math.log(0.1),
        " I": math.log(0.1),
        " the": -4.0,
    }
    grades = grade_distribution(returned, LABELS)
    assert grades == pytest.approx({"E": 0.5, "S": 0.25, "C": 0.125, "I": 0.125})
    # 0.5 * 1 + 0.25 * 0.1 + 0.125 * 0.01 + 0.125 * 0
    assert relevance_score(grades, default().gains) == pytest.approx(0.52625)


@pytest.mark.parametrize(("yes", "no"), [(0.6, 0.2), (0.001, 0.9), (1e-12, 1e-6), (0.5, 0.5)])
def test_the_binary_score_is_yes_over_yes_and_no(yes: float, no: float) -> None:
    returned = {"Yes": math.log(yes), "No": math.log(no), "maybe": math.log(1e-13)}
    score = relevance_score(grade_distribution(returned, ("Yes", "No")), {"Yes": 1.0, "No": 0.0})
    assert score == pytest.approx(yes / (yes + no), rel=1e-12)


def test_a_labels_forms_with_and_without_blank_are_one() -> None:
    returned = {" Yes": math.log(0.3), "Yes": math.log(0.1), "\u2581Yes": math.log(0.2), "No": math.log(0.2)}
    assert grade_distribution(returned, ("Yes", "No")) == pytest.approx({"Yes": 0.75, "No": 0.25})


def test_other_tokens_that_hold_a_label_do_not_count() -> None:
    returned = {
        "E": math.log(0.1),
        "Exact": math.log(0.8),
        "e": -1.0,
        "\nE": -1.0,
        "E ": -1.0,
        "S": math.log(0.1),
    }
    assert grade_distribution(returned, ("E", "S")) == pytest.approx({"E": 0.5, "S": 0.5})


def test_a_missing_label_gets_the_smallest_log_probability_returned() -> None:
    returned = {"E": math.log(0.9), "the": math.log(0.06), "a": math.log(0.03)}
    assert grade_distribution(returned, ("E", "S")) == pytest.approx({"E": 0.9 / 0.93, "S": 0.03 / 0.93})


def test_very_unlikely_labels_are_still_told_apart() -> None:
    returned = {"the": -0.0001, "E": -800.0, "S": -801.0}
    grades = grade_distribution(returned, ("E", "S"))
    assert grades["E"] == pytest.approx(1 / (1 + math.exp(-1)))


@pytest.mark.parametrize(
    "returned",
    [
        {},
        {"the": -0.1, "a": -3.0},
        {"E": -0.1},
        {"the": -0.1, "a": -3.0, "E": -9.0},
        {"E": math.nan, "S": -1.0},
        {"E": math.inf, "S": -1.0},
        {"E": -math.inf, "S": -math.inf},
    ],
)
def test_what_does_not_tell_the_labels_apart_is_refused(returned: dict[str, float]) -> None:
    with pytest.raises(ScoringError, match="expected"):
        grade_distribution(returned, ("E", "S"))


def test_a_grade_without_gain_is_refused() -> None:
    with pytest.raises(ScoringError, match="none for S"):
        relevance_score({"E": 0.5, "S": 0.5}, {"E": 1.0})


@given(st.fixed_dictionaries(dict.fromkeys(LABELS, logprobs)), st.floats(min_value=-50, max_value=0))
def test_distributions_sum_to_one_and_ignore_a_common_factor(held: dict[str, float], shift: float) -> None:
    grades = grade_distribution(held, LABELS)
    assert math.fsum(grades.values()) == pytest.approx(1)
    assert 0 <= relevance_score(grades, default().gains) <= 1
    shifted = grade_distribution({label: value + shift for label, value in held.items()}, LABELS)
    assert shifted == pytest.approx(grades, abs=1e-9)
    assert held[max(grades, key=grades.__getitem__)] == pytest.approx(max(held.values()), abs=1e-9)


@given(st.lists(logprobs, min_size=1))
def test_log_sum_is_the_logarithm_of_the_sum(values: list[float]) -> None:
    assert log_sum(values) == pytest.approx(math.log(math.fsum(map(math.exp, values))), abs=1e-9)
    assert log_sum([]) == -math.inf


@pytest.mark.parametrize(
    ("tokens", "label", "after", "place"),
    [
        (["grade", ":", " E"], "E", "grade:", 2),
        (["grade", ":", " ", "E"], "E", "grade:", 3),
        (["grade", ":", "E", "<|im_end|>"], "E", "grade:", 2),
        (["grade", ":", "\u2581E", "</s>"], "E", "grade:", 2),
        (["E | brand | E | match\n", "grade", ":", " E", ""], "E", "grade:", 3),
        (["grade", ":", " N", "o"], "No", "grade:", 2),
        (["grade", ": E"], "E", "grade:", None),
        (["size", ":", " E"], "E", "grade:", None),
        (["E"], "E", "", 0),
        (["\n", "Yes", "<|im_end|>"], "Yes", "", 1),
        (["so ", "E"], "E", "", None),
        ([], "E", "grade:", None),
    ],
)
def test_the_token_in_which_the_label_begins(
    tokens: list[str], label: str, after: str, place: int | None
) -> None:
    assert label_place(tokens, label, after=after) == place


@given(
    st.lists(st.sampled_from(["grade", ":", " ", "E", " E", "\n", "x", "<end>", ""])),
    st.sampled_from(["grade:", ""]),
)
def test_a_found_label_stands_where_it_should(tokens: list[str], after: str) -> None:
    place = label_place(tokens, "E", after=after)
    if place is not None:
        assert tokens[place].strip() == "E"
        assert "".join(tokens[:place]).strip().endswith(after)


def test_the_grades_are_read_at_the_label_not_elsewhere() -> None:
    elsewhere = {"E": -5.0, "S": -0.1}
    tokens = [
        Token(text="grade", top=elsewhere),
        Token(text=":", top=elsewhere),
        Token(text=" E", top={" E": math.log(0.8), " S": math.log(0.2)}),
        Token(text="<end>", top=elsewhere),
    ]
    grades = read_grades(tokens, written="E", labels=("E", "S"), after="grade:")
    assert grades == pytest.approx({"E": 0.8, "S": 0.2})
    with pytest.raises(ScoringError, match="ends in grade: S"):
        read_grades(tokens, written="S", labels=("E", "S"), after="grade:")
    with pytest.raises(ScoringError, match="got 0"):
        read_grades([], written="E", labels=("E", "S"), after="grade:")
