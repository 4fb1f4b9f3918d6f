"""The text of items and queries: cleaned once and for all, whatever strangers wrote."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.item_text import (
    MAX_QUERY_CHARS,
    MAX_TITLE_CHARS,
    clean,
    content_hash,
    item_text,
    query_text,
)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  red\t\n mug  ", "red mug"),
        ("ＲＥＤ ①", "RED 1"),
        ("i\u200bPho\u00adne", "iPhone"),
        ("\u202egum der\u202c", "gum der"),
        ("r\x00e\x1bd", "r e d"),
        ("Nikе shoеs", "Nike shoes"),
        ("кружка красная", "кружка красная"),
        ("кружка Nova красная", "кружка Nova красная"),
        ("Αdidas", "Adidas"),
        ("cafe\u0301", "café"),
        ("Z" + "\u0335\u0336\u0337\u0338" * 9 + "algo", "Z\u0335\u0336algo"),
        ("\ud800mug", "mug"),
        ("日本 茶碗", "日本 茶碗"),
        ("\U0001f600 mug", "\U0001f600 mug"),
        ("", ""),
        ("\u200b\u2060", ""),
    ],
)
def test_text_is_cleaned_as_a_reader_sees_it(text: str, cleaned: str) -> None:
    assert clean(text, max_chars=100) == cleaned


def test_long_text_is_cut() -> None:
    assert clean("a" * 1000, max_chars=10) == "a" * 10
    assert clean("ab " * 1000, max_chars=3) == "ab"
    assert clean("\ufdfa" * 1000, max_chars=40) == clean("\ufdfa" * 10, max_chars=40)


texts = st.one_of(
    st.text(max_size=80),
    st.text(alphabet="aеАхsн \u0301\u0335\u200bαΑ\u3000ﬁ\ufdfaé", max_size=60),
)


@settings(max_examples=500)
@given(texts, st.integers(1, 50))
@example("aab сссссс", 5)
def test_cleaning_twice_is_cleaning_once(text: str, max_chars: int) -> None:
    once = clean(text, max_chars=max_chars)
    assert clean(once, max_chars=max_chars) == once


@given(texts, st.integers(1, 50))
def test_cleaned_text_is_short_visible_and_on_one_line(text: str, max_chars: int) -> None:
    cleaned = clean(text, max_chars=max_chars)
    assert len(cleaned) <= max_chars
    assert cleaned == " ".join(cleaned.split())
    assert not any(unicodedata.category(char)[0] == "C" for char in cleaned)
    assert unicodedata.is_normalized("NFC", cleaned)
    cleaned.encode()


@given(texts)
def test_a_query_is_cleaned_to_its_length(text: str) -> None:
    assert query_text(text) == clean(text, max_chars=MAX_QUERY_CHARS)


@given(texts, texts, st.lists(texts, max_size=5), texts)
def test_an_item_has_a_line_for_each_thing_known(
    title: str, brand: str, category: list[str], size: str
) -> None:
    text = item_text(title=title, brand=brand, category=category, attributes={"size": size, "smell": "nice"})
    first, *rest = text.split("\n")
    assert first == clean(title, max_chars=MAX_TITLE_CHARS)
    names = [line.partition(": ")[0] for line in rest]
    assert names == [name for name in ("brand", "category", "size") if name in names]
    assert ("brand" in names) == bool(clean(brand, max_chars=60))
    assert ("size" in names) == bool(clean(size, max_chars=60))


def test_only_the_last_levels_and_the_named_attributes_are_shown() -> None:
    text = item_text(
        title="Nova mug",
        category=("All", "Home", "Kitchen", "Mugs"),
        attributes={"size": "1 l", "voltage": "230 V"},
        names=("voltage",),
    )
    assert text == "Nova mug\ncategory: Home / Kitchen / Mugs\nvoltage: 230 V"


def test_the_hash_names_the_text() -> None:
    assert content_hash("Nova mug") == content_hash("Nova mug")
    assert content_hash("Nova mug") != content_hash("nova mug")
    assert len(content_hash("")) == 16
    assert content_hash("\ud800") != content_hash("")
