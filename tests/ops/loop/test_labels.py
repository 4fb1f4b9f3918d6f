"""People's few labels: who gets which queries, and how wrong they are."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.loop import labels
from ops.loop.labels import GRADES, Labels, labels_of, noisy
from ops.settings import Settings
from ops.shop.real_catalogue import CatalogueError
from ops.shop.shop import open_shop
from streams.item_text import query_text
from students.examples import LabelledPair, from_label
from students.grades import ESCI

SMALL = {"items": 600, "queries": 400}


def small(**shop: object) -> Settings:
    return Settings.model_validate({"shop": SMALL | shop})


@pytest.fixture(scope="module")
def made() -> Labels:
    return labels_of(small())


def queries_of(pairs: list[LabelledPair]) -> set[str]:
    return {pair.query for pair in pairs}


def test_the_three_sets_share_no_query(made: Labels) -> None:
    learned, golden, unseen = (queries_of(each) for each in (made.learned, made.golden, made.unseen))
    assert learned
    assert golden
    assert unseen
    assert not learned & golden
    assert not (learned | golden) & unseen


def test_people_know_head_and_torso_and_the_golden_set_has_all_classes(made: Labels) -> None:
    assert {pair.traffic_class for pair in made.learned} == {"head", "torso"}
    assert {pair.traffic_class for pair in made.golden} == {"head", "torso", "tail"}
    assert 100 < len(made.learned) <= labels.LEARNED


def test_nobody_searches_for_the_unseen_queries(made: Labels) -> None:
    searched = {query.text for query in open_shop(small().shop).queries}
    assert not queries_of(made.unseen) & searched


def test_golden_and_unseen_grades_are_the_truth_and_a_share_of_the_learned_is_off_by_one(
    made: Labels,
) -> None:
    shop = open_shop(small().shop)
    texts = {query_text(each.text): each.text for each in shop.queries}
    assert all(pair.grade == shop.truth.grade(texts[pair.query], pair.item_id).value for pair in made.golden)
    steps = Counter(
        abs(GRADES.index(shop.truth.grade(texts[pair.query], pair.item_id)) - ESCI.position(pair.grade))
        for pair in made.learned
    )
    assert set(steps) == {0, 1}
    assert 0.03 < steps[1] / len(made.learned) < 0.2


def test_equal_settings_give_equal_labels_and_another_seed_others(made: Labels) -> None:
    assert labels_of(small()) == made
    assert labels_of(small(seed=8)).learned != made.learned


def test_students_can_read_every_pair_and_item(made: Labels) -> None:
    for pair in (*made.learned, *made.golden, *made.unseen):
        assert from_label(pair, ESCI).query == pair.query
    assert len(made.items) == SMALL["items"]


@given(share=st.floats(0, 1), seed=st.integers(0, 99), grades=st.lists(st.sampled_from("ESCI"), max_size=30))
@settings(deadline=None)
def test_noise_moves_a_grade_by_one_step_and_nothing_else(share: float, seed: int, grades: list[str]) -> None:
    pairs = [
        LabelledPair(query=f"q{number}", item_id=f"i{number}", item_text="text", grade=grade)
        for number, grade in enumerate(grades)
    ]
    found = noisy(pairs, random.Random(seed), share=share)
    assert [each.query for each in found] == [each.query for each in pairs]
    moved = [
        abs(ESCI.position(before.grade) - ESCI.position(after.grade))
        for before, after in zip(pairs, found, strict=True)
    ]
    assert set(moved) <= {0, 1}
    if share in (0, 1):
        assert all(each == share for each in moved)


def write_catalogue(folder: Path, *, queries: int) -> Path:
    folder.mkdir()
    products = [{"product_id": f"p{number}", "title": f"kettle {number}", "price": 5} for number in range(12)]
    judged = [
        {"query": f"kettle {query}", "product_id": f"p{item}", "label": "ESCI"[(query + item) % 4]}
        for query in range(queries)
        for item in range(12)
    ]
    # Cleaned, this one reads like another: it must not be in two sets.
    judged += [{"query": " kettle  1", "product_id": "p1", "label": "E"}]
    for name, rows in (("products", products), ("judgements", judged)):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return folder


@pytest.mark.parametrize("seed", range(5))
def test_a_real_catalogue_keeps_golden_and_unseen_queries_out_of_traffic(tmp_path: Path, seed: int) -> None:
    catalogue = write_catalogue(tmp_path / "real", queries=40)
    given_settings = small(catalogue=catalogue, golden_share=0.4, seed=seed)
    made = labels_of(given_settings)
    searched = {query_text(query.text) for query in open_shop(given_settings.shop).queries}
    learned, golden, unseen = (queries_of(each) for each in (made.learned, made.golden, made.unseen))
    assert learned <= searched
    assert golden
    assert unseen
    assert not (golden | unseen) & searched
    assert not golden & unseen
    # What nobody searches for is of the tail: the gate asks for these.
    assert {pair.traffic_class for pair in (*made.golden, *made.unseen)} == {"tail"}


def test_a_real_catalogue_without_golden_queries_is_refused_by_the_settings_name(tmp_path: Path) -> None:
    catalogue = write_catalogue(tmp_path / "real", queries=4)
    with pytest.raises(CatalogueError, match="RELEVANCE_SHOP__GOLDEN_SHARE"):
        labels_of(small(catalogue=catalogue))
