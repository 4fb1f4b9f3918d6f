"""Tags of tokens become the words they tag."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from students.tags import TAGS
from students.tokenisation import ITEM, QUERY, SPECIAL, Tokens
from triton_models.shared.spans import spans_of


def tokens(sides: list[int], offsets: list[tuple[int, int]]) -> Tokens:
    return Tokens(ids=[0] * len(sides), segments=[0] * len(sides), sides=sides, offsets=offsets, cut=[])


def probabilities(tags: list[str]) -> np.ndarray:
    made = np.full((len(tags), len(TAGS)), 0.05, dtype=np.float32)
    for row, tag in enumerate(tags):
        made[row, TAGS.index(tag)] = 0.8
    return made


def test_words_begin_go_on_and_end_where_their_side_does() -> None:
    sides = [SPECIAL, QUERY, QUERY, SPECIAL, ITEM, ITEM, ITEM, ITEM, SPECIAL]
    offsets = [(0, 0), (0, 3), (4, 10), (0, 0), (0, 4), (5, 8), (9, 12), (13, 16), (0, 0)]
    tags = ["O", "B-match", "I-match", "B-match", "I-match", "I-mismatch", "B-mismatch", "O", "O"]
    found = spans_of(tokens(sides, offsets), probabilities(tags), TAGS)
    assert [(each["side"], each["start"], each["end"], each["verdict"]) for each in found] == [
        ("query", 0, 10, "match"),
        ("item", 0, 4, "match"),
        ("item", 5, 8, "mismatch"),
        ("item", 9, 12, "mismatch"),
    ]
    assert found[0]["probability"] == pytest.approx(0.8)


@given(st.lists(st.tuples(st.sampled_from([SPECIAL, QUERY, ITEM]), st.sampled_from(TAGS)), max_size=20))
def test_every_tagged_token_of_a_text_is_in_one_span(made: list[tuple[int, str]]) -> None:
    offsets = [
        (0, 0) if side == SPECIAL else (2 * place, 2 * place + 1) for place, (side, _) in enumerate(made)
    ]
    found = spans_of(
        tokens([side for side, _ in made], offsets), probabilities([tag for _, tag in made]), TAGS
    )
    names = {QUERY: "query", ITEM: "item"}
    for (side, tag), (start, end) in zip(made, offsets, strict=True):
        holding = [
            each
            for each in found
            if each["side"] == names.get(side) and each["start"] <= start and end <= each["end"]
        ]
        tagged = side != SPECIAL and tag != "O"
        assert len(holding) == tagged
        assert not tagged or holding[0]["verdict"] == tag[2:]
