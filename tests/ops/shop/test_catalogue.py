from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import msgspec

from ops.settings import Settings, load
from ops.shop import catalogue
from ops.shop.items import words
from ops.shop.product_types import TYPES
from ops.shop.shop import Shop, fingerprint, open_shop


def test_default_catalogue_has_every_type_and_imperfect_titles() -> None:
    made = catalogue.generate(items=load({}).shop.items, seed=7)
    assert len(made.items) == len(made.facts) == 20_000
    per_type = Counter(facts.product_type for facts in made.facts.values())
    assert per_type.keys() == TYPES.keys()
    assert min(per_type.values()) >= 20
    named = stuffed = 0
    for item_id, item in made.items.items():
        facts = made.facts[item_id]
        assert item.item_id == item_id
        assert item.price > 0
        assert item.title.strip()
        title = set(words(item.title))
        named += set(words(facts.brand)) <= title
        stuffed += "not" in title or "like" in title
    assert 0.7 < named / 20_000 < 0.95
    assert stuffed > 500
    assert 0 < sum(not item.brand for item in made.items.values()) < 2_000


def test_accessories_fit_a_device_that_is_sold() -> None:
    made = catalogue.generate(items=3_000, seed=3)
    devices = {facts.identity() for facts in made.facts.values()}
    accessories = [facts for facts in made.facts.values() if TYPES[facts.product_type].fits]
    assert accessories
    assert all(facts.compatibility in devices for facts in accessories)
    assert not any(facts.compatibility for facts in made.facts.values() if not TYPES[facts.product_type].fits)


def test_items_carry_no_hidden_facts(small_shop: Shop) -> None:
    item = next(iter(small_shop.items.values()))
    assert set(msgspec.to_builtins(item)) == {"item_id", "title", "brand", "category", "attributes", "price"}


def test_same_seed_same_shop_another_seed_another(small_settings: Settings, small_shop: Shop) -> None:
    assert fingerprint(open_shop(small_settings.shop)) == fingerprint(small_shop)
    other = small_settings.shop.model_copy(update={"seed": 8})
    assert fingerprint(open_shop(other)) != fingerprint(small_shop)


def test_the_shop_does_not_depend_on_the_hash_seed() -> None:
    program = (
        "from ops.settings import load; from ops.shop.shop import fingerprint, open_shop;"
        "settings = load({'RELEVANCE_SHOP__ITEMS': '500', 'RELEVANCE_SHOP__QUERIES': '200'});"
        "print(fingerprint(open_shop(settings.shop)))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
    assert len(printed.pop().strip()) == 16
