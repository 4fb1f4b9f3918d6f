from __future__ import annotations

import pytest

from ops.bench.forgetting import Traffic, drifting, traffic


@pytest.fixture(scope="module")
def shop() -> Traffic:
    return traffic(seed=1, items=600, query_count=400, periods=3, watched_queries=12)


def test_nothing_is_learned_of_the_pairs_that_are_watched(shop: Traffic) -> None:
    learned = {(each.example.query, each.example.item_id) for period in shop.periods for each in period}
    assert len(shop.watched) == 48
    assert not learned & {(pair.query, pair.item_id) for pair in shop.watched}
    assert {pair.query for pair in shop.watched} <= {each.example.query for each in shop.periods[0]}


def test_periods_share_no_query_and_updates_drift_through_them(shop: Traffic) -> None:
    of_period = [{each.example.query for each in period} for period in shop.periods]
    assert not of_period[0] & of_period[1] | of_period[1] & of_period[2]
    updates = drifting(shop, updates=4, judgements=40, lasting=0.25, seed=1)
    assert [len(update) for update in updates] == [40] * 4
    newest = [
        sum(each.example.query in of_period[1 + number // 2] for each in update)
        for number, update in enumerate(updates)
    ]
    assert newest == [30] * 4
    assert updates == drifting(shop, updates=4, judgements=40, lasting=0.25, seed=1)
