from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ops.settings import load as load_settings
from ops.shop.real_catalogue import JUDGEMENTS, PRODUCTS, SETTING, CatalogueError, golden_queries, load
from ops.shop.shop import fingerprint, open_shop
from ops.shop.truth import Grade

ESCI_PRODUCT = {
    "product_id": "a",
    "title": "Lamp",
    "brand": None,
    "color": "red",
    "category": ["Home"],
    "price": None,
}
ESCI_JUDGEMENT = {"query": "lamp", "product_id": "a", "label": "S"}
PRICED = {**ESCI_PRODUCT, "product_id": "b", "brand": "Nova", "price": 5.5}
CHORUS_PRODUCT = {
    "product_id": "1",
    "title": "HP Toner",
    "supplier": "HP",
    "price": 4995,
    "attr_t_product_type": "Toner",
    "attr_t_product_colour": "Black",
    "attr_n_weight": 3.0,
}


def write(path: Path, *lines: dict[str, Any] | bytes) -> None:
    with gzip.open(path, "wb") as file:
        for line in lines:
            file.write((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / PRODUCTS, ESCI_PRODUCT, PRICED)
    write(tmp_path / JUDGEMENTS, ESCI_JUDGEMENT, {**ESCI_JUDGEMENT, "product_id": "b", "label": "E"})
    return tmp_path


def test_esci_dialect(folder: Path) -> None:
    real = load(folder, seed=1)
    assert real.items["a"].attributes == {"colour": "red"}
    assert real.items["a"].category == ("Home",)
    assert (real.items["a"].brand, real.items["b"].brand) == ("", "Nova")
    assert real.items["a"].price == real.items["b"].price == 5.5
    assert [query.text for query in real.queries] == ["lamp"]
    assert real.truth.grade("lamp", "a") is Grade.SUBSTITUTE
    assert real.truth.grade("lamp", "b") is Grade.EXACT
    assert real.truth.grade("lamp", "unjudged") is Grade.IRRELEVANT


def test_chorus_dialect(tmp_path: Path) -> None:
    ids = ["1", "2", "3", "4"]
    write(tmp_path / PRODUCTS, *({**CHORUS_PRODUCT, "product_id": item_id} for item_id in ids))
    write(
        tmp_path / JUDGEMENTS,
        *({"query": "toner", "product_id": item_id, "grade": grade} for grade, item_id in enumerate(ids)),
    )
    real = load(tmp_path, seed=1)
    item = real.items["1"]
    assert (item.brand, item.category, item.price) == ("HP", ("Toner",), 49.95)
    assert item.attributes == {"colour": "Black", "product_type": "Toner"}
    assert [real.truth.grade("toner", item_id).value for item_id in ids] == ["I", "S", "E", "E"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "expected a line of JSON"),
        (b"\xff\xfe", "expected a line of JSON"),
        (b"[1]", "expected a JSON object"),
        (b"[" * 100_000, "expected a line of JSON"),
        (b'{"query": "\\ud800", "product_id": "a", "label": "E"}', "expected a line of JSON"),
        ({**ESCI_JUDGEMENT, "label": "X"}, "expected label E, S, C or I, got 'X'"),
        ({**ESCI_JUDGEMENT, "label": ["E"]}, "expected label E, S, C or I"),
        ({**ESCI_JUDGEMENT, "query": 5}, "expected query to be a text, got '5'"),
        ({**ESCI_JUDGEMENT, "query": ""}, "expected query to be a text"),
        ({"query": "lamp", "label": "E"}, "expected product_id to be a text"),
        ({**ESCI_JUDGEMENT, "label": "I"}, "graded otherwise before"),
    ],
)
def test_a_bad_judgement_is_named_by_file_and_line(
    folder: Path, line: dict[str, Any] | bytes, message: str
) -> None:
    write(folder / JUDGEMENTS, ESCI_JUDGEMENT, line)
    with pytest.raises(CatalogueError, match=message) as error:
        load(folder, seed=1)
    assert f"{JUDGEMENTS}:2: " in str(error.value)
    assert SETTING in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": None}, "expected title to be a text, got 'None'"),
        ({"brand": 3}, "expected brand to be a text"),
        ({"category": "Home"}, "expected category to be a list of texts"),
        ({"price": "5"}, "expected price to be from 0 to"),
        ({"price": -1}, "expected price to be from 0 to"),
        ({"price": float("nan")}, "expected price to be from 0 to"),
        ({"price": 10**400}, "expected price to be from 0 to"),
        ({"price": True}, "expected price to be from 0 to"),
        ({"product_id": "a"}, "'a' has come before"),
    ],
)
def test_a_bad_product_is_named_by_file_and_line(folder: Path, change: dict[str, Any], message: str) -> None:
    write(folder / PRODUCTS, ESCI_PRODUCT, {**PRICED, **change})
    with pytest.raises(CatalogueError, match=message) as error:
        load(folder, seed=1)
    assert f"{PRODUCTS}:2: " in str(error.value)


def test_a_missing_folder_or_file_names_the_setting(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        CatalogueError, match=r"nowhere is not a folder.*RELEVANCE_SHOP__CATALOGUE / --catalogue"
    ):
        load(tmp_path / "nowhere", seed=1)
    (folder / PRODUCTS).unlink()
    with pytest.raises(CatalogueError, match=r"products.jsonl.gz cannot be read.*RELEVANCE_SHOP__CATALOGUE"):
        load(folder, seed=1)


def test_files_that_are_no_catalogue_are_refused(folder: Path) -> None:
    whole = (folder / JUDGEMENTS).read_bytes()
    for content in (b"plain text", whole[:-12], b""):
        (folder / JUDGEMENTS).write_bytes(content)
        with pytest.raises(CatalogueError, match=r"cannot be read|holds no judgements"):
            load(folder, seed=1)
    write(folder / JUDGEMENTS, {**ESCI_JUDGEMENT, "product_id": "unknown"})
    with pytest.raises(CatalogueError, match="'unknown', judged for 'lamp', is not in products"):
        load(folder, seed=1)
    write(folder / JUDGEMENTS, {"query": "lamp", "product_id": "a", "stars": 5})
    with pytest.raises(CatalogueError, match="expected label or grade"):
        load(folder, seed=1)


def test_golden_queries_are_split_by_query_and_seed() -> None:
    texts = [f"query {number}" for number in range(50)]
    golden = golden_queries(texts, share=0.2, seed=1)
    assert len(golden) == 10
    assert golden == golden_queries(reversed(texts), share=0.2, seed=1)
    assert golden != golden_queries(texts, share=0.2, seed=2)
    assert golden_queries(texts, share=0, seed=1) == frozenset()
    with pytest.raises(ValueError, match=r"\[0, 1\], got 1.5"):
        golden_queries(texts, share=1.5, seed=1)


def test_golden_queries_get_no_traffic(folder: Path) -> None:
    judgements = [{**ESCI_JUDGEMENT, "query": f"lamp {number}"} for number in range(10)]
    write(folder / JUDGEMENTS, *judgements)
    real = load(folder, seed=1, golden_share=0.3)
    assert len(real.golden) == 3
    assert {query.text for query in real.queries} == {each["query"] for each in judgements} - real.golden
    assert sum(query.share for query in real.queries) == pytest.approx(1)
    with pytest.raises(CatalogueError, match="leaves no query for traffic"):
        load(folder, seed=1, golden_share=1)


@pytest.mark.parametrize(
    ("name", "items", "queries", "exact"), [("esci", 6_597, 114, 2_480), ("chorus", 19_406, 102, 1_257)]
)
def test_the_public_sets_load_whole(name: str, items: int, queries: int, exact: int) -> None:
    folder = load_settings().data / name
    if not folder.is_dir():
        pytest.skip(f"no data set at {folder}; RELEVANCE_DATA names the folder of the data sets")
    settings = load_settings({"RELEVANCE_SHOP__CATALOGUE": str(folder)})
    shop = open_shop(settings.shop)
    assert (len(shop.items), len(shop.queries)) == (items, queries)
    grades = [grade for _, _, grade in json.loads(shop.truth.content())]
    assert grades.count("E") == exact
    assert fingerprint(shop) == fingerprint(open_shop(settings.shop))
    first = shop.queries[0].text
    assert first != open_shop(settings.shop.model_copy(update={"seed": 8})).queries[0].text
