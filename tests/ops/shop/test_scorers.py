from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.bench.shop_truth import auc
from ops.shop.items import Item
from ops.shop.oracle import NoisyOracleScorer
from ops.shop.scorers import LexicalScorer
from ops.shop.shop import Shop
from ops.shop.truth import GAINS, AttributeTruth, Facts


def item(item_id: str, title: str) -> Item:
    return Item(item_id=item_id, title=title, brand="", category=(), attributes={}, price=1.0)


ITEMS = [item("1", "Red shoes"), item("2", "Blue shoes"), item("3", "Blue hose")]


def test_lexical_score_is_the_idf_weighted_share_of_words_found() -> None:
    scorer = LexicalScorer(ITEMS)
    red, shoes = math.log(1 + 3 / 2), math.log(1 + 3 / 3)
    assert scorer.score("RED shoes", ITEMS) == pytest.approx([1, shoes / (red + shoes), 0])
    assert scorer.score("red red shoes", ITEMS) == scorer.score("red shoes", ITEMS)
    assert scorer.version == "lexical"


def test_lexical_scorer_takes_items_it_has_not_counted() -> None:
    assert LexicalScorer(ITEMS).score("red", [item("9", "red thing")]) == [1.0]


@given(st.text(), st.lists(st.text()))
def test_lexical_scores_are_shares_whatever_the_text(query: str, titles: list[str]) -> None:
    items = [item(str(number), title) for number, title in enumerate(titles)]
    scores = LexicalScorer(ITEMS).score(query, items)
    assert len(scores) == len(items)
    assert all(0 <= score <= 1 for score in scores)


def test_oracle_without_noise_is_the_gain(small_shop: Shop) -> None:
    query = small_shop.queries[200].text
    items = list(small_shop.items.values())[:200]
    expected = [GAINS[small_shop.truth.grade(query, each.item_id)] for each in items]
    assert NoisyOracleScorer(small_shop.truth, noise=0, seed=1).score(query, items) == expected


def test_oracle_noise_belongs_to_the_pair_and_has_the_spread_asked_for() -> None:
    ids = [f"sku-{number}" for number in range(2_000)]
    facts = dict.fromkeys(ids, Facts(product_type="laptop", colour="silver"))
    truth = AttributeTruth({"laptop": Facts(product_type="laptop", colour="gold")}, facts)
    items = [item(item_id, "laptop") for item_id in ids]
    scorer = NoisyOracleScorer(truth, noise=0.02, seed=1)
    scores = scorer.score("laptop", items)
    assert np.mean(scores) == pytest.approx(0.1, abs=0.002)
    assert np.std(scores) == pytest.approx(0.02, rel=0.1)
    assert scorer.score("laptop", items[::-1]) == scores[::-1]
    assert NoisyOracleScorer(truth, noise=0.02, seed=2).score("laptop", items) != scores
    assert scorer.version == "oracle-with-noise"


def test_oracle_does_not_guess() -> None:
    with pytest.raises(KeyError):
        NoisyOracleScorer(AttributeTruth({}, {}), noise=0.1, seed=1).score("laptop", [item("1", "laptop")])


def test_auc_counts_ties_half() -> None:
    assert auc(np.array([0.1, 0.4, 0.35, 0.8]), [False, False, True, True]) == pytest.approx(0.75)
    assert auc(np.array([0.5, 0.5, 0.5]), [True, False, True]) == pytest.approx(0.5)
    assert math.isnan(auc(np.array([0.5]), [True]))
