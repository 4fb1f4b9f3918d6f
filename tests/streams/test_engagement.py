"""Engagement windows: counts, correction for position, what changed, what is forgotten."""

from __future__ import annotations

import random
from typing import Any

import pytest

from streams.engagement import MAX_ITEMS, Engagement, PositionCurve
from streams.records import EngagementDelta


def delta(
    item: str = "i1", *, query: str = "q", start_s: int = 0, position: int = 1, **counts: Any
) -> EngagementDelta:
    return EngagementDelta(query=query, item_id=item, window_start_s=start_s, position=position, **counts)


def engagement() -> Engagement:
    return Engagement(window_s=3600, windows_kept=2)


def test_counts_add_up_in_their_window() -> None:
    held = engagement()
    for one in (
        delta(impressions=1),
        delta(impressions=1),
        delta(clicks=1),
        delta(start_s=3600, purchases=1),
    ):
        held.add(one)
    first, second = held.take_changed(now_ms=5)
    assert (first.items[0].impressions, first.items[0].clicks, first.window_start_s) == (2, 1, 0)
    assert (second.items[0].purchases, second.window_start_s, second.updated_ms) == (1, 3600, 5)


def test_only_what_changed_is_handed_out() -> None:
    held = engagement()
    held.add(delta(query="a", impressions=1))
    assert [window.query for window in held.take_changed(now_ms=0)] == ["a"]
    held.add(delta(query="b", impressions=1))
    assert [window.query for window in held.take_changed(now_ms=0)] == ["b"]
    assert held.take_changed(now_ms=0) == []


def test_coec_tells_an_items_pull_from_its_place() -> None:
    rng = random.Random(1)
    held = engagement()
    pull = {"strong": 2.0, "weak": 0.5}
    for _ in range(20_000):
        places = {"strong": rng.choice([1, 10, 10]), "weak": rng.choice([1, 1, 10])}
        for item, position in places.items():
            held.add(delta(item, position=position, impressions=1))
            if rng.random() < pull[item] * (0.2 if position == 1 else 0.05):
                held.add(delta(item, position=position, clicks=1))
    (window,) = held.take_changed(now_ms=0)
    coec = {item.item_id: item.clicks / item.expected_clicks for item in window.items}
    ctr = {item.item_id: item.clicks / item.impressions for item in window.items}
    assert coec["strong"] / coec["weak"] == pytest.approx(4, rel=0.25)
    assert ctr["strong"] / ctr["weak"] < 3.0


def test_the_curve_starts_from_a_prior_that_falls_and_ends_at_what_was_seen() -> None:
    curve = PositionCurve()
    assert curve.expected_clicks(1) > curve.expected_clicks(5) > curve.expected_clicks(50)
    curve.learn(3, 1_000_000, 20_000)
    assert curve.expected_clicks(3) == pytest.approx(0.02, rel=0.01)
    assert curve.expected_clicks(10_000) == curve.expected_clicks(50)


def test_old_windows_are_forgotten_and_named() -> None:
    held = engagement()
    for start_s in (0, 3600, 7200):
        held.add(delta(start_s=start_s, impressions=1))
    assert list(held.forget_old()) == [(0, "q")]
    assert len(held) == 2


def test_a_query_holds_a_bounded_number_of_items() -> None:
    held = engagement()
    for n in range(MAX_ITEMS + 50):
        held.add(delta(f"i{n}", impressions=1))
    assert len(held) == MAX_ITEMS


def test_stored_windows_are_taken_over() -> None:
    held = engagement()
    held.add(delta(impressions=3, clicks=1))
    after = engagement()
    after.restore(held.take_changed(now_ms=0))
    after.add(delta(impressions=1))
    (window,) = after.take_changed(now_ms=0)
    assert (window.items[0].impressions, window.items[0].clicks) == (4, 1)


def test_scores_and_frequency_travel_with_the_window_and_over_a_restart() -> None:
    held = engagement()
    for searches, score in ((3, 0.2), (9, 0.6), (4, None), (2, 7.0)):
        held.add(
            EngagementDelta(
                query="q",
                item_id="i1",
                window_start_s=0,
                position=1,
                impressions=1,
                score=score,
                searches=searches,
                traffic_class="torso" if searches == 9 else "tail",
            )
        )
    (window,) = held.take_changed(now_ms=0)
    assert (window.searches, window.traffic_class) == (9, "torso")
    # Neither a missing score nor one outside [0, 1] counts.
    assert (window.items[0].impressions, window.items[0].scored) == (4, 2)
    assert window.items[0].score_sum == pytest.approx(0.8)
    again = engagement()
    again.restore([window])
    again.add(delta(impressions=1))
    (restored,) = again.take_changed(now_ms=1)
    assert (restored.searches, restored.traffic_class, restored.items[0].scored) == (9, "torso", 2)
