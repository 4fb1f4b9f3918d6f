from __future__ import annotations

import numpy as np
import pytest

from ops.bench.shop_truth import simulate
from ops.settings import Settings
from ops.shop.shop import Shop
from ops.shop.shoppers import Population, Shopper, browse, chances, expected
from streams.records import Action

SHOPPER = Shopper("someone", patience=0.7, eagerness=1.0)
EVEN = [10.0] * 5


def test_clicks_fall_with_position_and_price_and_grow_with_gain() -> None:
    alike = [each.click for each in chances(SHOPPER, [1.0] * 5, EVEN)]
    assert alike == sorted(alike, reverse=True)
    assert alike[3] == pytest.approx(alike[0] * 4**-0.7)
    relevant, irrelevant = (chances(SHOPPER, [gain], [10.0])[0] for gain in (1.0, 0.0))
    assert relevant.click > 5 * irrelevant.click > 0
    assert relevant.cart > irrelevant.cart
    first, *_, last = (chances(SHOPPER, [1.0] * 3, prices)[0] for prices in ([5.0, 10, 10], [20.0, 10, 10]))
    assert first.click > last.click


def test_an_empty_page_is_left_alone() -> None:
    assert chances(SHOPPER, [], []) == []
    assert browse(np.random.default_rng(1), []) == []


def test_drawn_behaviour_has_the_expected_rates_and_order() -> None:
    rng = np.random.default_rng(5)
    page = chances(SHOPPER, [1.0, 0.1, 1.0, 0.0, 1.0], [9.0, 10.0, 11.0, 12.0, 8.0])
    clicks, purchases = expected(page)
    counts = dict.fromkeys(Action, 0)
    for _ in range(20_000):
        deeds = browse(rng, page)
        assert [deed.delay_ms for deed in deeds] == sorted(deed.delay_ms for deed in deeds)
        done: set[tuple[Action, int]] = set()
        for deed in deeds:
            counts[deed.action] += 1
            assert deed.quantity >= 1
            assert 0 < deed.delay_ms < 150_000
            if deed.action is Action.ADD_TO_CART:
                assert (Action.CLICK, deed.position) in done
            if deed.action is Action.PURCHASE:
                assert (Action.ADD_TO_CART, deed.position) in done
            done.add((deed.action, deed.position))
    assert counts[Action.CLICK] / 20_000 == pytest.approx(clicks, rel=0.03)
    assert counts[Action.PURCHASE] / 20_000 == pytest.approx(purchases, rel=0.06)


def test_the_crowd_is_seeded_and_some_come_more_often() -> None:
    crowd = Population(shoppers=200, seed=1)
    assert crowd.shoppers == Population(shoppers=200, seed=1).shoppers
    assert crowd.shoppers != Population(shoppers=200, seed=2).shoppers
    rng = np.random.default_rng(1)
    visits = np.unique([crowd.draw(rng).client_id for _ in range(20_000)], return_counts=True)[1]
    assert visits.max() > 5 * visits.mean()


def test_shoppers_click_more_on_the_oracles_pages_most_of_all_in_the_tail(
    small_settings: Settings, small_shop: Shop
) -> None:
    totals = simulate(small_settings, small_shop, searches=1_500)
    ctr = {
        (name, arm): each.expected_clicks / each.impressions
        for name, arms in totals.items()
        for arm, each in arms.items()
    }
    assert ctr["all", "treatment"] > 1.05 * ctr["all", "control"]
    uplift = {name: ctr[name, "treatment"] / ctr[name, "control"] for name in totals}
    assert uplift["tail"] > uplift["head"]
    drawn = totals["all"]["treatment"]
    assert drawn.clicks == pytest.approx(drawn.expected_clicks, rel=0.1)
