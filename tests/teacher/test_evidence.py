"""Quoted words found again in the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.item_text import clean
from teacher.evidence import fold, locate
from teacher.prompt import fence


@pytest.mark.parametrize(
    ("words", "text", "found"),
    [
        ("red", "red mug", "red"),
        ("RED", "a red mug", "red"),
        ("red  mug ", "a Red mug", "Red mug"),
        ("1¦2 ‹b›", "size 1|2 <b>", "1|2 <b>"),
        ("1¦2", "size 1¦2", "1¦2"),
        ("colour: red", "mug\ncolour: red", "colour: red"),
        ("kettle", "Two kettles", "kettle"),
        ("ÉTÉ", "robe d'été", "été"),
        ("straße", "Straße", "Straße"),
        ("", "red", None),
        ("  ", "red mug", None),
        ("blue", "red mug", None),
        ("mug colour", "mug\ncolour: red", None),
        ("mug\ncolour", "mug\ncolour: red", None),
        ("strasse", "Straße", None),
    ],
)
def test_words_are_found_as_they_stand(words: str, text: str, found: str | None) -> None:
    span = locate(words, text)
    assert (span and text[slice(*span)]) == found


@pytest.mark.parametrize(
    ("words", "text", "start"),
    [
        ("pot", "pot and pot", 0),
        ("red", "bored red", 6),
        ("Red", "Redmi phone, red", 13),
        ("Pot", "pot Pot", 4),
        ("5", "15 l, 5 l", 6),
    ],
)
def test_whole_words_come_first_then_exact_ones_then_the_first(words: str, text: str, start: int) -> None:
    assert locate(words, text) == (start, start + len(words))


@given(st.text())
def test_folding_keeps_every_character_in_its_place(text: str) -> None:
    assert len(fold(text)) == len(text)
    assert fold(fold(text)) == fold(text)


@given(st.data())
def test_what_the_prompt_shows_can_be_quoted(data: st.DataObject) -> None:
    text = clean(data.draw(st.text(min_size=1)), max_chars=200)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    span = locate(fence(text[start:end]), text)
    if not text[start:end].strip():
        assert span is None
    else:
        assert span is not None
        assert fold(text[slice(*span)]) == fold(" ".join(text[start:end].split()))


@given(st.text(), st.text())
def test_any_two_texts_give_a_span_inside_the_text_or_none(words: str, text: str) -> None:
    span = locate(words, text)
    assert span is None or 0 <= span[0] < span[1] <= len(text)
