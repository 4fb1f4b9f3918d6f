"""Chains of the generated shop say what the facts say, in words that stand in the texts."""

from __future__ import annotations

import random

import pytest

from ops.shop import catalogue, queries
from ops.shop.judged_pairs import text_of
from ops.shop.product_types import TYPES
from ops.shop.reference_chains import chain
from ops.shop.truth import Facts
from ops.shop.wording import forms, write
from streams.item_text import query_text
from teacher.policy import Verdict, default

PAN = Facts(
    product_type="frying pan", brand="Kupex", series="Kite", colour="navy", material="stainless steel"
)
PAN_TEXT = (
    "Kupex Kite dark blue inox non stick pan 24\nbrand: Kupex\ncategory: Kitchen / Cookware / Frying pan"
)


def test_verdicts_and_words() -> None:
    """A wish is met, contradicted, or not spoken of."""
    wish = Facts(product_type="wok", brand="Kupex", colour="red", material="stainless steel", size="24 cm")
    found = {
        line.subtask: (line.query_words, line.item_words, line.verdict)
        for line in chain("kupex rd wok steel 24cm", wish, PAN_TEXT, PAN)
    }
    assert found == {
        "category": ("wok", "Frying pan", Verdict.MISMATCH),
        "brand": ("kupex", "Kupex", Verdict.MATCH),
        "colour": ("rd", "dark blue", Verdict.MISMATCH),
        "material": ("steel", "inox", Verdict.MATCH),
        "size": ("24cm", "", Verdict.UNSTATED),
    }


def test_a_title_that_names_the_query_does_not_hide_what_the_fields_say() -> None:
    """The item's words come from its named fields, which say what it is, whatever stands in the title."""
    stuffed = PAN_TEXT.replace("\n", " wok red wok, frying pan\n", 1)
    lines = chain("red wok", Facts(product_type="wok"), stuffed, PAN)
    assert [(line.item_words, line.verdict) for line in lines] == [("Frying pan", Verdict.MISMATCH)]


def test_what_the_query_does_not_name_has_no_line() -> None:
    """A wish whose words cannot be found in the query is not reasoned about."""
    assert chain("something else", Facts(product_type="wok"), PAN_TEXT, PAN) == ()


def test_a_slip_of_the_finger_is_quoted_as_it_stands() -> None:
    """Misspelled words are found and quoted unmended."""
    lines = chain("fryign pan", Facts(product_type="frying pan"), PAN_TEXT, PAN)
    assert [(line.query_words, line.verdict) for line in lines] == [("fryign pan", Verdict.MATCH)]


def test_compatibility_of_a_device_with_its_accessory() -> None:
    """The device itself is what an accessory is made for."""
    wish = Facts(product_type="phone case", compatibility="Nova Arc X5")
    phone = Facts(product_type="smartphone", brand="Nova", series="Arc", model="X5")
    lines = chain("cover for nova arc x5", wish, "Nova Arc X5 handset", phone)
    assert [(line.subtask, line.item_words, line.verdict) for line in lines] == [
        ("category", "handset", Verdict.MISMATCH),
        ("compatibility", "Nova Arc X5", Verdict.MATCH),
    ]


def test_over_a_whole_shop_every_word_stands_in_its_text() -> None:
    """No wish is lost but by its wording, and no word is made up."""
    generated = catalogue.generate(items=400, seed=3)
    traffic, intents = queries.generate(generated, queries=300, seed=3)
    rng = random.Random(3)
    names = {subtask.name for subtask in default().subtasks}
    wishes = found = 0
    for each in traffic:
        item_id = rng.choice(sorted(generated.items))
        query, text = query_text(each.text), text_of(generated.items[item_id])
        lines = chain(query, intents[each.text], text, generated.facts[item_id])
        assert all(line.query_words in query and line.item_words in text for line in lines)
        places = [query.index(line.query_words) for line in lines]
        assert places == sorted(places)
        assert len({line.subtask for line in lines} & names) == len(lines)
        wishes += bool(intents[each.text].product_type) + bool(intents[each.text].brand)
        found += sum(line.subtask in ("category", "brand") for line in lines)
    assert found >= 0.99 * wishes


@pytest.mark.parametrize("attribute", ["colour", "size", "material", "quantity", "audience"])
def test_forms_hold_whatever_is_written(attribute: str) -> None:
    """`forms` knows every way that `write` has."""
    rng = random.Random(5)
    values = {value for each in TYPES.values() for value in each.attributes.get(attribute, ())}
    for value in sorted(values):
        for _ in range(20):
            assert write(rng, attribute, value, variant_share=0.7) in forms(attribute, value)
