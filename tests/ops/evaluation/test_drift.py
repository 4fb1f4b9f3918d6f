from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.evaluation.drift import Drift, grade_drift


def test_psi_by_hand() -> None:
    found = grade_drift({"E": 499, "I": 499}, {"E": 249, "I": 749})
    # Half a judgement is added to each: shares 0.5, 0.5 and 0.2497, 0.7503.
    shares = 249.5 / 999, 749.5 / 999
    assert found.psi == pytest.approx(sum((q - 0.5) * math.log(q / 0.5) for q in shares))
    assert found.state is Drift.MOVED
    assert found.p_value is not None
    assert found.p_value < 1e-20


@pytest.mark.parametrize(
    ("later", "state"),
    [
        ({"E": 500, "S": 300, "C": 50, "I": 150}, Drift.STABLE),
        ({"E": 470, "S": 320, "C": 55, "I": 155}, Drift.STABLE),
        ({"E": 350, "S": 330, "C": 60, "I": 260}, Drift.MOVING),
        ({"E": 250, "S": 300, "C": 50, "I": 400}, Drift.MOVED),
        ({"E": 1000, "S": 0, "C": 0, "I": 0}, Drift.MOVED),
        ({"E": 20, "S": 10, "C": 0, "I": 10}, Drift.UNKNOWN),
    ],
)
def test_drift_is_told_by_how_far_the_mix_is(later: dict[str, int], state: Drift) -> None:
    found = grade_drift({"E": 500, "S": 300, "C": 50, "I": 150}, later)
    assert found.state is state
    assert (found.psi is None) == (state is Drift.UNKNOWN)


def test_a_large_index_of_few_judgements_may_be_chance() -> None:
    found = grade_drift({"E": 40, "S": 5, "C": 5, "I": 2}, {"E": 34, "S": 4, "C": 4, "I": 10})
    assert found.psi is not None
    assert found.psi > 0.1
    assert found.p_value is not None
    assert found.p_value > 0.01
    assert found.state is Drift.STABLE


def test_one_and_the_same_grade_is_no_drift() -> None:
    found = grade_drift({"E": 100, "I": 0}, {"E": 80, "I": 0})
    assert (found.state, found.p_value) == (Drift.STABLE, None)


def test_mixes_of_other_scales_are_refused() -> None:
    with pytest.raises(ValueError, match="expected counts of the same grades"):
        grade_drift({"E": 100}, {"Yes": 100})


COUNTS = st.fixed_dictionaries({label: st.integers(0, 500) for label in "ESCI"})


@given(COUNTS, COUNTS)
def test_drift_is_symmetric_and_never_negative(earlier: dict[str, int], later: dict[str, int]) -> None:
    found, back = grade_drift(earlier, later), grade_drift(later, earlier)
    assert found.state is back.state
    if found.psi is not None:
        assert back.psi is not None
        assert 0 <= found.psi == pytest.approx(back.psi)
    if found.p_value is not None:
        assert 0 <= found.p_value <= 1
