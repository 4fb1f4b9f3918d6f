"""The guards on simulated judgements: silent on a normal window, loud on a poisoned one."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.settings import Gate
from students.gate.guards import Watch, Watched, expected_mix, mix_of, rise, watch
from students.gate.suspicion import LEAST_JUDGEMENTS, weights
from tests.students.gate.champions import MIX, distributions, grades_of

LABELS = ("E", "S", "C", "I")
GATE = Gate(window=256)


def simulated(
    rng: np.random.Generator, count: int, *, flipped: float = 0.0, people: float = 0.0
) -> list[Watched]:
    """Return judgements of a teacher beside champions, by query and pair.

    A flipped judgement has the grade at the other end of the scale, of which the champions think little.
    """
    likely = distributions(rng, count)
    true = grades_of(rng, likely)
    turned = rng.random(count) < flipped
    places = np.where(turned, 3 - true, true)
    nats = weights(likely, places.tolist())
    by_people = rng.random(count) < people
    wrong = turned | (rng.random(count) > 0.75)
    return [
        Watched(
            query=f"q{number // 4}",
            grade=LABELS[places[number]],
            disagreement=float(wrong[number] if by_people[number] else nats[number]),
            by_people=bool(by_people[number]),
        )
        for number in range(count)
    ]


def looked(
    earlier: list[Watched],
    new: list[Watched],
    *,
    held_out: Sequence[Watched] = (),
    refused: int = 0,
    suspicion: float = 0.0,
) -> Watch:
    return watch(
        earlier, new, held_out=held_out, suspicion=suspicion, refused=refused, labels=LABELS, gate=GATE
    )


def share_of_alarms(*, flipped: float, people: float = 0.0, trials: int = 200, guard: str = "") -> float:
    rng = np.random.default_rng(11)
    fired = 0
    for _ in range(trials):
        found = looked(
            simulated(rng, 1000, people=people),
            simulated(rng, 256, flipped=flipped, people=people),
            held_out=simulated(rng, 400),
        )
        fired += any(guard in ("", alarm.guard) for alarm in found.alarms)
    return fired / trials


def test_a_normal_window_raises_no_alarm() -> None:
    # Two comparisons at 1 %, one of which also asks for a large index.
    assert share_of_alarms(flipped=0.0) <= 0.02


def test_a_fifth_of_flipped_labels_raises_an_alarm() -> None:
    assert share_of_alarms(flipped=0.2, guard="disagreement") >= 0.95


def test_people_notice_flipped_labels_too() -> None:
    assert share_of_alarms(flipped=0.2, people=1.0, guard="people") >= 0.8
    assert share_of_alarms(flipped=0.0, people=1.0) <= 0.03


def test_evidence_too_weak_to_stop_makes_judgements_wait_and_adds_up() -> None:
    rng = np.random.default_rng(6)
    held_out = simulated(rng, 400)
    doubted = 0
    for _ in range(100):
        first = looked([], simulated(rng, 30, flipped=0.2), held_out=held_out)
        again = looked([], simulated(rng, 30, flipped=0.2), held_out=held_out, suspicion=first.suspicion)
        assert bool(first.doubt) <= (not first.alarms)
        if first.doubt:
            doubted += 1
            assert "they wait for the next ones" in first.doubt
            assert GATE.guard_alpha <= first.figures["watch.disagreement_p_value"] < GATE.guard_doubt
            assert first.figures["watch.suspicion"] == first.suspicion > 0
        alone = looked([], [], held_out=held_out, suspicion=again.suspicion)
        assert alone.suspicion == again.suspicion
    assert doubted >= 5


def test_a_mix_that_jumps_raises_an_alarm_and_says_so() -> None:
    rng = np.random.default_rng(1)
    earlier = simulated(rng, 1000)
    later = [Watched(query=f"n{n}", grade="E", disagreement=-0.05, by_people=False) for n in range(200)]
    found = looked(earlier, later, held_out=earlier)
    assert [alarm.guard for alarm in found.alarms] == ["grade_mix"]
    assert "PSI" in found.alarms[0].why


def of_pairs(
    rng: np.random.Generator, count: int, mix: tuple[float, ...], *, says: str = ""
) -> list[Watched]:
    """Return judgements of pairs whose grades have a mix that the champions know; `says` is what the teacher says."""
    made = []
    for number in range(count):
        true = int(rng.choice(4, p=mix))
        expected = tuple(0.55 if place == true else 0.15 for place in range(4))
        grade = says or LABELS[true]
        made.append(
            Watched(
                query=f"q{number // 4}", grade=grade, disagreement=-0.05, by_people=False, expected=expected
            )
        )
    return made


def mix_alarm(earlier: list[Watched], later: list[Watched]) -> bool:
    found = looked(earlier, later, held_out=earlier)
    return any(alarm.guard == "grade_mix" for alarm in found.alarms)


def test_other_pairs_move_the_mix_and_raise_no_alarm_where_the_champions_expect_it() -> None:
    rng = np.random.default_rng(4)
    earlier, later = of_pairs(rng, 500, MIX), of_pairs(rng, 256, (0.1, 0.4, 0.1, 0.4))
    assert not mix_alarm(earlier, later)
    unknown = [msgspec.structs.replace(each, expected=()) for each in later]
    assert mix_alarm(earlier, unknown)


def test_a_teacher_that_says_one_thing_of_all_pairs_raises_one_all_the_same() -> None:
    rng = np.random.default_rng(5)
    earlier = of_pairs(rng, 500, MIX)
    assert mix_alarm(earlier, of_pairs(rng, 256, MIX, says="E"))
    assert mix_alarm(earlier, of_pairs(rng, 256, (0.1, 0.4, 0.1, 0.4), says="E"))


@given(st.lists(st.tuples(st.sampled_from(LABELS), st.lists(st.floats(0, 1), max_size=5)), max_size=40))
@settings(deadline=None)
def test_an_expected_mix_has_as_many_judgements_or_is_none(given_: list[tuple[str, list[float]]]) -> None:
    side = [
        Watched(query="q", grade=grade, disagreement=0.0, by_people=False, expected=tuple(expected))
        for grade, expected in given_
    ]
    found = expected_mix(side, side, LABELS)
    if not side or any(len(each.expected) != 4 for each in side):
        assert found is None
    else:
        assert found == mix_of(side, LABELS)


@pytest.mark.parametrize(("refused", "fires"), [(50, False), (80, True), (0, False)])
def test_too_many_refused_records_raise_an_alarm(refused: int, fires: bool) -> None:
    rng = np.random.default_rng(2)
    found = looked(simulated(rng, 500), simulated(rng, 256), refused=refused)
    assert any(alarm.guard == "refused" for alarm in found.alarms) is fires
    assert found.figures["watch.refused_share"] == refused / (refused + 256)


def test_few_new_judgements_are_watched_with_those_before() -> None:
    rng = np.random.default_rng(3)
    earlier, new = simulated(rng, 1000, people=1.0), simulated(rng, 16, people=1.0)
    assert looked(earlier, new).figures["watch.people_p_value"] > 0
    assert looked([], new, held_out=simulated(rng, 200)).alarms == ()
    nothing = looked([], [], suspicion=1.5)
    assert (nothing.figures, nothing.suspicion, nothing.doubt) == ({}, 1.5, "")


JUDGED = st.lists(
    st.builds(
        Watched,
        query=st.integers(0, 30).map(str),
        grade=st.sampled_from(LABELS),
        disagreement=st.floats(0, 1),
        by_people=st.just(False),
    ),
    max_size=90,
)


@given(JUDGED, JUDGED)
@settings(deadline=None)
def test_a_rise_is_a_difference_of_means_with_a_p_value(earlier: list[Watched], later: list[Watched]) -> None:
    found, back = rise(earlier, later), rise(later, earlier)
    assert (found is None) == (back is None)
    if found is None or back is None:
        return
    assert min(len(earlier), len(later)) >= LEAST_JUDGEMENTS
    assert found[0] == pytest.approx(-back[0], abs=1e-12)
    assert -1 <= found[0] <= 1
    assert 0 <= found[1] <= 1
