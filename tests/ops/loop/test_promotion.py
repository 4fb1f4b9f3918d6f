"""What the guardrails and the steps call for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.experiments.guardrails import Guardrail
from ops.loop.promoter import told
from ops.loop.promotion import Trial, due, harm, trial_of
from tests.students.publishing.test_ledger import step

TRIAL = Trial("interaction", 5, version_ms=2000, line_ms=1000)


def guardrail(name: str, *, breached: bool) -> Guardrail:
    return Guardrail(name, 0.1, 0.05, breached, f"{name} is bad")


def test_nothing_is_due_without_a_version_that_waits() -> None:
    assert due([]) is None
    assert due([step(1, version=1)]) is None
    assert due([step(1), step(2, version=2, challenger=2)]) is None


def test_a_version_that_passed_is_promoted_with_its_reason() -> None:
    move = due([step(1), step(2, version=2, decision="update 4 passed the gate")])
    assert move is not None
    assert (move.what, move.kind, move.version, move.why) == (
        "promote",
        "interaction",
        2,
        "update 4 passed the gate",
    )


def test_the_later_challenger_is_on_trial() -> None:
    assert trial_of([step(1)]) is None
    steps = [
        step(1),
        step(2, challenger=2),
        step(3, kind="representation", version=3, champion=3),
        step(4, kind="representation", version=4, champion=3, challenger=4),
    ]
    assert trial_of(steps) == Trial("representation", 4, 4000, 4000)
    steps.append(step(5, version=5, challenger=5))
    assert trial_of(steps) == Trial("interaction", 5, 5000, 2000)


@pytest.mark.parametrize("name", ["ctr_change", "latency_p99_ms", "fallback_share"])
def test_a_breach_rolls_back_and_says_why(name: str) -> None:
    fine, bad = [guardrail(name, breached=False)], [guardrail(name, breached=True)]
    assert harm(TRIAL, of_version=fine, of_line=fine) is None
    move = harm(TRIAL, of_version=bad, of_line=fine)
    assert move is not None
    assert (move.what, move.version) == ("roll_back", 5)
    assert move.why == (f"interaction-5 is rolled back: since it scores the treatment, {name} is bad")
    whole = harm(TRIAL, of_version=bad, of_line=bad)
    assert whole is not None
    assert whole.what == "roll_back_all"


def test_a_broken_split_is_not_the_models_fault() -> None:
    broken = [guardrail("sample_ratio_p_value", breached=True)]
    assert harm(TRIAL, of_version=broken, of_line=broken) is None


@given(
    version=st.lists(st.booleans(), min_size=3, max_size=3),
    line=st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_it_is_rolled_back_if_and_only_if_a_guardrail_is_breached(
    version: list[bool], line: list[bool]
) -> None:
    names = ("ctr_change", "latency_p99_ms", "fallback_share")
    of_version, of_line = (
        [guardrail(name, breached=each) for name, each in zip(names, found, strict=True)]
        for found in (version, line)
    )
    move = harm(TRIAL, of_version=of_version, of_line=of_line)
    assert (move is not None) == (any(version) or any(line))
    if move is not None:
        assert all(each.why in move.why for each in (of_line if any(line) else of_version) if each.breached)


def test_who_scores_what_is_told() -> None:
    steps = [step(1), step(2, challenger=2), step(3, kind="representation", version=3, champion=3)]
    assert told(steps) == "interaction: control 1, treatment 2; representation: control 3, treatment the same"
