"""How long it takes from an event to a served version, and what is said where clocks differ."""

from __future__ import annotations

import pytest

from ops.dashboard.freshness import Way, freshness

S = 1000


def way(*, event: int | None, sampled: int | None, judged: int, trained: int, update: int = 1) -> Way:
    """Make a way from seconds."""
    return Way(
        kind="interaction",
        update_id=update,
        event_ms=None if event is None else S * event,
        sampled_ms=None if sampled is None else S * sampled,
        judged_ms=S * judged,
        trained_ms=S * trained,
    )


def test_without_a_judgement_nothing_is_known() -> None:
    found = freshness([], [])
    assert (found.pairs, found.served, found.whole, found.p50_s, found.p95_s) == (0, 0, 0, None, None)
    assert [(stage.pairs, stage.p50_s, stage.share) for stage in found.stages] == [(0, None, None)] * 4


def test_shares_add_up_to_the_whole_way() -> None:
    ways = [way(event=0, sampled=10, judged=15 + n, trained=60) for n in range(20)]
    found = freshness(ways, [("interaction", 1, 70 * S)])
    assert sum(stage.share or 0 for stage in found.stages) == pytest.approx(1)
    assert found.p50_s == found.p95_s == 70
    assert [stage.p50_s for stage in found.stages] == [10, 14.5, 35.5, 10]
    assert [stage.name for stage in found.stages] == ["sampled", "judged", "trained", "served"]


def test_events_ahead_of_the_clock_are_counted_and_never_shown_as_no_time_at_all() -> None:
    ways = [way(event=0, sampled=5, judged=10, trained=20), way(event=300, sampled=5, judged=10, trained=20)]
    found = freshness(ways, [("interaction", 1, 30 * S)])
    sampled, judged, *_ = found.stages
    assert (sampled.pairs, sampled.p50_s, sampled.ahead, sampled.ahead_s) == (1, 5, 1, 295)
    assert (judged.pairs, judged.ahead) == (2, 0)
    assert (found.whole, found.p50_s) == (1, 30)


def test_all_events_ahead_leave_the_way_unknown() -> None:
    found = freshness([way(event=99, sampled=5, judged=10, trained=20)], [("interaction", 1, 30 * S)])
    assert (found.served, found.whole, found.p50_s) == (1, 0, None)
    assert [stage.share for stage in found.stages] == [None] * 4
    assert (found.stages[0].p50_s, found.stages[0].ahead) == (None, 1)


def test_a_judgement_of_an_update_that_was_kept_back_is_served_by_the_next_version() -> None:
    served = [("interaction", 1, 25 * S), ("representation", 3, 26 * S), ("interaction", 3, 90 * S)]
    found = freshness([way(event=0, sampled=5, judged=10, trained=20, update=2)], served)
    assert found.p50_s == 90


def test_what_is_not_served_yet_and_what_nobody_told_is_left_out() -> None:
    ways = [
        way(event=0, sampled=5, judged=10, trained=20, update=9),
        way(event=None, sampled=None, judged=10, trained=20),
    ]
    found = freshness(ways, [("interaction", 1, 30 * S)])
    assert (found.pairs, found.served, found.whole) == (2, 1, 0)
    assert [stage.pairs for stage in found.stages] == [1, 1, 2, 1]
