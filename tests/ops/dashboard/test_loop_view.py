"""The loop's page in data: what became of each version, and whether publishing is stopped."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.dashboard.loop_queries import StepRow, UpdateRow, VersionTraffic
from ops.dashboard.loop_view import alerts, gate_figures, kept_back, served, versions


def step(number: int, name: str, version: int, **told: Any) -> StepRow:
    fields: dict[str, Any] = {
        "step_id": number,
        "step": name,
        "kind": "interaction",
        "student_version": f"interaction-{version}",
        "parent_version": f"interaction-{version - 1}" if version > 1 else "",
        "decision": f"step {number}",
        "gate": '{"golden.auc":0.9,"tail.auc.difference":0.02,"tail.auc.lower":0.01,"tail.auc.upper":0.03}',
        "offsets": '{"relevance.judgements/0":40}',
        "champion": 1,
        "challenger": 0,
        "previous": 0,
        "pinned": False,
        "at_ms": 1000 * number,
    }
    return StepRow(**(fields | told))


def update(number: int, outcome: str, **told: Any) -> UpdateRow:
    fields: dict[str, Any] = {
        "kind": "interaction",
        "update_id": number,
        "parent_update": number - 1,
        "student_version": "",
        "outcome": outcome,
        "why": f"update {number}",
        "alarms": '[{"guard":"people","why":"it rose"}]' if outcome == "halted" else "[]",
        "figures": "{}",
        "ranges": '{"relevance.judgements/0":[0,40]}',
        "judgements": 30,
        "held_out": 10,
        "duplicates": 0,
        "refused": 0,
        "fresh": 30,
        "replayed": 30,
        "seconds": 1.0,
        "at_ms": 1000 * number,
    }
    return UpdateRow(**(fields | told))


#: Version 2 is promoted to the treatment, taken off, and made champion by hand after all.
STORY = [
    step(1, "published", 1),
    step(2, "published", 2),
    step(3, "promoted", 2, challenger=2),
    step(4, "rolled_back", 2),
    step(5, "promoted", 2, champion=2, previous=1),
]


@pytest.mark.parametrize(
    ("until", "arms", "states"),
    [
        (1, {1: "both"}, {}),
        (2, {1: "both"}, {2: "waiting"}),
        (3, {1: "control", 2: "treatment"}, {}),
        (4, {1: "both"}, {2: "rolled_back"}),
        (5, {2: "both"}, {1: "previous"}),
    ],
)
def test_each_step_says_what_scores_which_arm(
    until: int, arms: dict[int, str], states: dict[int, str]
) -> None:
    found = versions(STORY[:until], [], [])
    assert {int(each.name[12:]): each.arm for each in found if each.arm} == arms
    assert {int(each.name[12:]): each.state for each in found if not each.arm} == states
    assert [each.at_ms for each in found] == sorted((each.at_ms for each in found), reverse=True)


@pytest.mark.parametrize("last", ["retired", "refused", "exported"])
def test_a_version_that_is_gone_says_how(last: str) -> None:
    found = versions([STORY[0], step(2, last, 2)], [], [])
    assert (found[0].name, found[0].state) == ("interaction-2", last)


def test_a_version_replaced_by_another_is_neither_previous_nor_waiting() -> None:
    steps = [
        step(1, "published", 1),
        step(2, "published", 2, challenger=2),
        step(3, "published", 3, challenger=3),
    ]
    assert {each.name: each.state for each in versions(steps, [], []) if each.state} == {
        "interaction-2": "replaced"
    }


def test_a_version_is_shown_with_its_update_and_its_share_of_cascades() -> None:
    scored = [
        VersionTraffic("interaction-2", 10, 1, 0, 9),
        VersionTraffic("interaction-2+representation-5", 20, 3, 0, 9),
        VersionTraffic("interaction-21", 400, 50, 0, 9),
        VersionTraffic("lexical", 7, 0, 0, 9),
    ]
    (two, one) = versions(STORY[:2], [update(7, "passed", student_version="interaction-2")], scored)
    assert (two.update_id, two.judgements, two.ranges) == (7, 30, {"relevance.judgements/0": (0, 40)})
    assert (two.impressions, two.clicks, two.parent) == (30, 4, "interaction-1")
    assert (one.update_id, one.impressions) == (None, 0)
    assert two.gate.golden_auc == 0.9
    assert msgspec.structs.astuple(two.gate.tail_auc_difference) == (0.02, 0.01, 0.03)
    assert two.gate.golden_auc_difference.value is None


def test_a_version_counts_as_served_from_the_first_step_that_gave_it_an_arm() -> None:
    updates = [update(1, "kept"), update(7, "passed", student_version="interaction-2")]
    assert served(STORY, updates) == [("interaction", 7, 3000)]
    assert served(STORY[:2], updates) == []


def test_updates_without_a_version_are_listed_with_why() -> None:
    updates = [update(1, "kept"), update(2, "passed", student_version="interaction-2"), update(3, "passed")]
    assert [(each.update_id, each.outcome) for each in kept_back(updates)] == [(3, "waiting"), (1, "kept")]


def test_an_alert_stands_until_an_update_is_not_halted() -> None:
    updates = [update(1, "passed"), update(2, "halted"), update(3, "halted")]
    (alert,) = alerts(updates)
    assert (alert.kind, alert.since_ms, alert.updates, alert.judgements) == ("interaction", 2000, 2, 80)
    assert [(each.guard, each.why) for each in alert.alarms] == [("people", "it rose")]
    assert alerts([*updates, update(4, "kept")]) == []
    (first,) = alerts(updates[1:2])
    assert first.updates == 1
    assert alerts([]) == []


def test_each_kind_has_an_alert_of_its_own() -> None:
    updates = [update(1, "halted"), update(1, "passed", kind="representation")]
    assert [each.kind for each in alerts(updates)] == ["interaction"]


@given(st.text() | st.sampled_from(['{"golden.auc": "high"}', "[1]", "null", '{"golden.auc": 1e999}']))
def test_figures_that_are_none_are_left_out(text: str) -> None:
    assert gate_figures(text).golden_auc is None
