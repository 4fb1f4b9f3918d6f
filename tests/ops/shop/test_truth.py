from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ops.shop
from ops.shop.truth import GAINS, AttributeTruth, Facts, Grade, grade

PHONE = Facts(
    product_type="smartphone", brand="Nova", series="Echo", model="X2", colour="black", size="64 GB"
)
CASE = Facts(
    product_type="phone case",
    brand="Kulo",
    series="Arc",
    colour="red",
    material="leather",
    compatibility="Nova Echo X2",
)
SHOE = Facts(
    product_type="running shoes",
    brand="Nova",
    series="Trail",
    model="T1",
    colour="blue",
    size="42",
    audience="men",
)


@pytest.mark.parametrize(
    ("intent", "item", "expected"),
    [
        (Facts(product_type="smartphone"), PHONE, Grade.EXACT),
        (Facts(product_type="smartphone", brand="Nova", colour="black", size="64 GB"), PHONE, Grade.EXACT),
        (Facts(product_type="smartphone", colour="white"), PHONE, Grade.SUBSTITUTE),
        (Facts(product_type="smartphone", brand="Kulo", series="Arc", model="Z"), PHONE, Grade.SUBSTITUTE),
        (Facts(product_type="smartphone", brand="Kulo", colour="white"), PHONE, Grade.SUBSTITUTE),
        (
            Facts(product_type="smartphone", brand="Kulo", colour="white", size="1 TB"),
            PHONE,
            Grade.IRRELEVANT,
        ),
        (Facts(brand="Nova"), PHONE, Grade.EXACT),
        (Facts(brand="Kulo"), PHONE, Grade.IRRELEVANT),
        (Facts(product_type="laptop"), PHONE, Grade.IRRELEVANT),
        # An accessory answers the query for its device as a complement, if it fits what was asked for.
        (Facts(product_type="smartphone"), CASE, Grade.COMPLEMENT),
        (Facts(product_type="smartphone", brand="Nova"), CASE, Grade.COMPLEMENT),
        (Facts(product_type="smartphone", brand="Nov"), CASE, Grade.IRRELEVANT),
        (Facts(product_type="smartphone", brand="Kulo"), CASE, Grade.IRRELEVANT),
        # And the device the query for its accessory.
        (Facts(product_type="phone case", compatibility="Nova Echo X2"), PHONE, Grade.COMPLEMENT),
        (Facts(product_type="phone case", compatibility="Kulo Arc Z"), PHONE, Grade.IRRELEVANT),
        (Facts(product_type="phone case", compatibility="Nova"), CASE, Grade.EXACT),
        (
            Facts(product_type="phone case", compatibility="Nova Echo X2", colour="blue"),
            CASE,
            Grade.SUBSTITUTE,
        ),
        (Facts(product_type="phone case", compatibility="Nova Echo X20"), CASE, Grade.IRRELEVANT),
        # A type that can replace the one asked for is one miss.
        (Facts(product_type="walking shoes"), SHOE, Grade.SUBSTITUTE),
        (Facts(product_type="walking shoes", colour="blue", size="40"), SHOE, Grade.SUBSTITUTE),
        (Facts(product_type="walking shoes", colour="red", size="40"), SHOE, Grade.IRRELEVANT),
        (Facts(product_type="running shoes", audience="women"), SHOE, Grade.IRRELEVANT),
        (Facts(product_type="running shoes", audience="men", size="42"), SHOE, Grade.EXACT),
    ],
)
def test_grade_follows_from_the_attributes(intent: Facts, item: Facts, expected: Grade) -> None:
    assert grade(intent, item) is expected


def test_gains_are_those_of_esci() -> None:
    assert [GAINS[Grade(name)] for name in "ESCI"] == [1.0, 0.1, 0.01, 0.0]


def test_unknown_query_or_item_has_no_truth() -> None:
    truth = AttributeTruth({"phone": Facts(product_type="smartphone")}, {"sku-1": PHONE})
    assert truth.grade("phone", "sku-1") is Grade.EXACT
    with pytest.raises(KeyError):
        truth.grade("phone", "sku-2")
    with pytest.raises(KeyError):
        truth.grade("shoe", "sku-1")


@pytest.mark.parametrize("module", ["items", "retrieval", "scorers", "ad_engine", "ubi_writer"])
def test_what_an_engine_or_a_model_uses_does_not_import_the_truth(module: str) -> None:
    source = (Path(ops.shop.__file__).parent / f"{module}.py").read_text(encoding="utf-8")
    imported = [node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    assert imported
    assert not {"ops.shop.truth", "ops.shop.oracle", "ops.shop.catalogue", "ops.shop.product_types"} & set(
        imported
    )
