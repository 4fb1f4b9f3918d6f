"""Pairs with known grades: reproducible, split by query, and nothing to evaluate on is trained on."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from ops.shop.judged_pairs import (
    evaluation_queries,
    evaluation_set,
    golden_queries_of,
    real_pairs,
    shop_pairs,
)
from ops.shop.real_catalogue import CatalogueError
from ops.shop.training_examples import real_examples, shop_examples
from teacher.examples import answer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small catalogue of 20 queries with 6 judged items each."""
    path = tmp_path_factory.mktemp("data") / "small"
    path.mkdir()
    with gzip.open(path / "products.jsonl.gz", "wt") as file:
        for number in range(30):
            product = {
                "product_id": f"p{number}",
                "title": f"Thing {number} red",
                "brand": "Nova",
                "price": 5,
            }
            file.write(json.dumps(product) + "\n")
    with gzip.open(path / "judgements.jsonl.gz", "wt") as file:
        for query in range(20):
            for number in range(6):
                label = "ESCI"[(query + number) % 4]
                judged = {"query": f"red thing {query}", "product_id": f"p{query + number}", "label": label}
                file.write(json.dumps(judged) + "\n")
    return path


def test_shop_pairs_have_every_class_and_are_the_same_again() -> None:
    """A third of the queries is head, torso, tail each, all known to the shop."""
    pairs = shop_pairs(sampled_queries=30, per_query=4)
    assert pairs == shop_pairs(sampled_queries=30, per_query=4)
    by_class = Counter(traffic_class for _, traffic_class in {(p.query, p.traffic_class) for p in pairs})
    assert by_class == {"head": 10, "torso": 10, "tail": 10}
    assert len({(pair.query, pair.item_id) for pair in pairs}) == len(pairs) == 120


def test_real_pairs_are_split_by_query(folder: Path) -> None:
    """No query is on both sides, and the two sides are everything."""
    golden, rest = real_pairs(folder, golden=True), real_pairs(folder, golden=False)
    assert {pair.query for pair in golden} == golden_queries_of(folder)
    assert not {pair.query for pair in golden} & {pair.query for pair in rest}
    assert len(golden) + len(rest) == 120
    assert len(evaluation_set("small", folder.parent, sampled_queries=0, per_query=2)) == 2 * 8


def test_no_example_is_about_a_query_kept_for_evaluation(folder: Path) -> None:
    """Training on shops and on real catalogues leaves out what is evaluated on."""
    unseen = evaluation_queries()
    examples = shop_examples(80, seed=1, unseen=unseen)
    assert len(examples) == 80
    assert not {each.query for each in examples} & unseen
    real = real_examples(folder, 50, seed=1, unseen={"red thing 1"})
    assert not {each.query for each in real} & (golden_queries_of(folder) | {"red thing 1"})
    assert {each.grade for each in real} == set("ESCI")


def test_examples_are_the_same_again_and_hold_answers() -> None:
    """The same seed gives the same examples; another one others."""
    examples = shop_examples(40, seed=1)
    assert examples == shop_examples(40, seed=1)
    assert examples != shop_examples(40, seed=2)
    assert all(answer(each.chain, each.grade).endswith(f"grade: {each.grade}") for each in examples)
    for each in examples:
        assert all(line.item_words in each.item_text for line in each.chain)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """The message says where the catalogue was looked for."""
    with pytest.raises(CatalogueError, match="nowhere"):
        evaluation_set("nowhere", tmp_path, sampled_queries=1, per_query=1)
