"""The treatment's line of versions, read from steps."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.records import StudentStep
from students.publishing import treatment
from students.publishing.ledger import route_of
from tests.students.publishing.test_ledger import step

KIND = "interaction"


def steps_of(*told: tuple[str, int, int]) -> list[StudentStep]:
    """Return steps (name, version, challenger after it) under champion 1."""
    return [
        step(number, step=name, version=version, challenger=challenger)
        for number, (name, version, challenger) in enumerate(told, 1)
    ]


FIRST: tuple[str, int, int] = ("published", 1, 0)


def test_a_version_waits_until_it_is_promoted() -> None:
    steps = steps_of(FIRST, ("published", 2, 0))
    assert treatment.waiting(steps, KIND) == 2
    assert treatment.waiting(steps, "representation") == 0
    assert treatment.since_ms(steps, KIND) == (0, 0)
    steps = steps_of(FIRST, ("published", 2, 0), ("promoted", 2, 2))
    assert treatment.waiting(steps, KIND) == 0
    assert treatment.line_of(steps, KIND) == [2]
    assert treatment.since_ms(steps, KIND) == (3000, 3000)


def test_of_several_that_wait_the_last_is_meant() -> None:
    assert treatment.waiting(steps_of(FIRST, ("published", 2, 0), ("published", 3, 0)), KIND) == 3
    steps = steps_of(FIRST, ("published", 2, 0), ("published", 3, 0), ("promoted", 3, 3))
    assert treatment.waiting(steps, KIND) == 0


def test_a_rolled_back_version_never_comes_back() -> None:
    steps = steps_of(
        FIRST,
        ("published", 2, 0),
        ("promoted", 2, 2),
        ("published", 3, 2),
        ("promoted", 3, 3),
        ("rolled_back", 3, 2),
    )
    assert treatment.rolled_back(steps, KIND) == {3}
    assert treatment.line_of(steps, KIND) == [2]
    assert treatment.before(steps, KIND) == 0
    assert treatment.waiting(steps, KIND) == 0
    assert treatment.since_ms(steps, KIND) == (6000, 3000)
    assert treatment.before(steps[:-1], KIND) == 2


def test_a_version_that_was_retired_is_nothing_to_go_back_to() -> None:
    steps = steps_of(FIRST, ("published", 2, 2), ("published", 3, 3), ("retired", 2, 3))
    assert treatment.before(steps, KIND) == 0
    assert treatment.waiting(steps_of(FIRST, ("published", 2, 0), ("retired", 2, 0)), KIND) == 0


def test_a_challenger_that_became_champion_is_no_longer_in_the_line() -> None:
    steps = steps_of(FIRST, ("published", 2, 2))
    steps.append(step(3, step="promoted", version=2, champion=2, challenger=0, previous=1))
    assert treatment.line_of(steps, KIND) == []
    # The champion's own roll back says nothing against the version that is champion again.
    steps.append(step(4, step="rolled_back", version=1, champion=1, challenger=0))
    assert treatment.rolled_back(steps, KIND) == frozenset()
    # Nor is there a way back to what was champion for a while: no version is tried out.
    assert treatment.before(steps, KIND) == 0


@given(st.lists(st.sampled_from(["publish", "treat", "take_off", "to_champion", "retire"]), max_size=40))
def test_whatever_happens_nobody_gets_a_version_that_was_rolled_back(deeds: list[str]) -> None:
    steps = steps_of(FIRST)
    version = 1
    for deed in deeds:
        challenger = route_of(steps, KIND).challenger
        changes: dict[str, Any] = {"challenger": challenger}
        if deed == "publish":
            version += 1
            changes |= {"version": version}
        elif deed == "treat" and (waits := treatment.waiting(steps, KIND)):
            changes |= {"step": "promoted", "version": waits, "challenger": waits}
        elif deed in ("take_off", "to_champion") and challenger:
            back_to = treatment.before(steps, KIND) if deed == "take_off" else 0
            changes |= {"step": "rolled_back", "version": challenger, "challenger": back_to}
        elif deed == "retire" and version not in (1, challenger, treatment.before(steps, KIND)):
            changes |= {"step": "retired", "version": version}
        else:
            continue
        bad = treatment.rolled_back(steps, KIND)
        assert changes["challenger"] not in bad
        steps.append(step(len(steps) + 1, **changes))
        line = treatment.line_of(steps, KIND)
        present = route_of(steps, KIND).challenger
        assert not present or line[-1] == present
        assert treatment.before(steps, KIND) != present or not present
        assert (treatment.since_ms(steps, KIND) != (0, 0)) == bool(present)
