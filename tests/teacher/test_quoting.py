"""Known words found in titles and queries, however they are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teacher.quoting import MIN_SLIP_LETTERS, find_in_item, find_words, one_slip


@pytest.mark.parametrize(
    ("text", "forms", "found"),
    [
        ("Red Steel KETTLE", ["kettle"], "KETTLE"),
        ("frying pan set", ["pan", "frying pan"], "frying pan"),
        ("a kettle and a kettle", ["kettle"], "kettle"),
        ("ketlte 1 l", ["kettle"], "ketlte"),
        ("kettles", ["kettle"], "kettles"),
        ("teakettle", ["kettle"], ""),
        ("redmi phone", ["red"], ""),
        ("rad mug", ["red"], ""),
        ("bottle", ["kettle"], ""),
        ("t-shirt (blue)", ["t-shirt"], "t-shirt"),
        ("c++ book", ["c++"], "c++"),
        ("", ["kettle"], ""),
        ("kettle", [], ""),
        ("kettle", [""], ""),
    ],
)
def test_words_are_found_as_they_stand_in_the_text(text: str, forms: list[str], found: str) -> None:
    assert find_words(text, forms) == found


@given(st.text(max_size=60), st.lists(st.text(max_size=12), max_size=4))
def test_what_is_found_stands_in_the_text(text: str, forms: list[str]) -> None:
    assert find_words(text, forms) in text


@given(st.text(alphabet="abcdef ", max_size=20), st.text(alphabet="abcdef", min_size=1, max_size=8))
def test_a_whole_word_is_always_found(before: str, word: str) -> None:
    assert find_words(f"{before} {word} end", [word]).lower() == word


words = st.text(alphabet="abcd", min_size=MIN_SLIP_LETTERS, max_size=8)


@given(words, st.data())
def test_each_kind_of_slip_is_one(word: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(word) - 1))
    lost = word[:at] + word[at + 1 :]
    mistaken = word[:at] + "x" + word[at + 1 :]
    doubled = word[:at] + word[at] + word[at:]
    swapped = word[:at] + word[at : at + 2][::-1] + word[at + 2 :]
    for other in (lost, mistaken, doubled, swapped):
        assert one_slip(word, other)
        assert one_slip(other, word)


@given(words)
def test_two_mistakes_are_not_one_slip(word: str) -> None:
    assert not one_slip(word, "x" + word[1:-1] + "y")
    assert not one_slip(word, word + "xy")


def test_an_items_named_fields_come_before_its_title() -> None:
    assert find_in_item("Red mug\ncolour: RED", ["red"]) == "RED"
    assert find_in_item("Red mug\ncolour: blue", ["red"]) == "Red"
    assert find_in_item("Red mug", ["red"]) == "Red"
    assert find_in_item("", ["red"]) == ""
