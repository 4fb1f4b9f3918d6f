from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ops.shop.product_types import PALETTES
from ops.shop.wording import UNITS, VARIANTS, misspell, write


def test_no_wording_stands_for_two_values_of_an_attribute() -> None:
    for attribute in ("colour", "size", "material", "audience"):
        values = {value for name, each in PALETTES.values() if name == attribute for value in each}
        written = [form.lower() for value in values for form in (value, *VARIANTS.get(value, ()))]
        assert len(written) == len(set(written)), attribute


def test_every_measure_can_be_written_otherwise() -> None:
    sizes = {value for name, each in PALETTES.values() if name == "size" for value in each if " " in value}
    for size in sizes:
        assert size.split(" ")[1] in UNITS
        assert {write(random.Random(seed), "size", size, variant_share=1) for seed in range(30)} - {size}


def test_without_variants_a_value_stands_as_it_is() -> None:
    rng = random.Random(1)
    assert write(rng, "colour", "navy", variant_share=0) == "navy"
    assert write(rng, "quantity", "6", variant_share=0) == "6 pack"
    assert write(rng, "colour", "navy", variant_share=1) in VARIANTS["navy"]


@given(st.text(), st.integers())
def test_misspelling_changes_one_word_by_at_most_a_letter(text: str, seed: int) -> None:
    slipped = misspell(random.Random(seed), text)
    before, after = text.split(" "), slipped.split(" ")
    assert len(before) == len(after)
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) <= 1
    for old, new in changed:
        assert abs(len(old) - len(new)) <= 1
        assert old[0] == new[0]
