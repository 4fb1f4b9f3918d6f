from __future__ import annotations

import numpy as np
import pytest

from ops.settings import load
from ops.shop import catalogue, queries
from ops.shop.product_types import TYPES
from ops.shop.truth import Facts, Grade, grade


def wishes(intent: Facts) -> int:
    return sum(bool(getattr(intent, name)) for name in Facts.__struct_fields__)


def test_default_queries_are_distinct_and_zipf() -> None:
    made = catalogue.generate(items=20_000, seed=7)
    traffic, intents = queries.generate(made, queries=load({}).shop.queries, seed=7)
    assert len(traffic) == len({query.text for query in traffic}) == len(intents) == 5_000
    shares = np.array([query.share for query in traffic])
    assert shares.sum() == pytest.approx(1)
    slope = np.polyfit(np.log(np.arange(1, 5_001)), np.log(shares), 1)[0]
    assert slope == pytest.approx(-queries.ZIPF_EXPONENT)
    head = [wishes(intents[query.text]) for query in traffic[:50]]
    tail = [wishes(intents[query.text]) for query in traffic[-2_000:]]
    assert np.mean(head) < 1.3
    assert np.mean(tail) > 3.5


def test_most_wishes_can_be_met_and_some_cannot() -> None:
    made = catalogue.generate(items=2_000, seed=5)
    _, intents = queries.generate(made, queries=300, seed=5)
    met = [
        any(grade(intent, item) is Grade.EXACT for item in made.facts.values()) for intent in intents.values()
    ]
    assert 0.85 < np.mean(met) < 1


def test_texts_differ_from_plain_values_by_synonyms_and_slips() -> None:
    made = catalogue.generate(items=5_000, seed=5)
    traffic, intents = queries.generate(made, queries=2_000, seed=5)
    typed = [query.text for query in traffic if intents[query.text].product_type]
    plain = sum(intents[text].product_type in text for text in typed)
    assert 0.3 < plain / len(typed) < 0.8
    assert set(TYPES) <= intents.keys()


def test_too_small_a_catalogue_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "MAX_FRUITLESS", 10)
    made = catalogue.generate(items=1, seed=5)
    with pytest.raises(ValueError, match=r"expected 100000: set shop\.queries lower or shop\.items higher"):
        queries.generate(made, queries=100_000, seed=5)
