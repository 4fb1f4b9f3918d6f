"""Suspicion on simulated judgements: silent without poison, sure with it, however they are cut into updates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.settings import Gate
from students.gate.suspicion import (
    LEAST_JUDGEMENTS,
    LEAST_P_VALUE,
    LEAST_QUERIES,
    TAMPERED,
    Mean,
    look,
    mean_of,
    weights,
)
from tests.students.gate.champions import distributions, grades_of

Floats = npt.NDArray[np.float64]
ALLOWED = Gate().disagreement_rise
PER_QUERY = 4


def evidence(rng: np.random.Generator, count: int, *, flipped: float = 0.0) -> Floats:
    likely = distributions(rng, count)
    places = grades_of(rng, likely)
    turned = rng.random(count) < flipped
    return weights(likely, np.where(turned, 3 - places, places).tolist())


def usual(rng: np.random.Generator, count: int = 500) -> Mean:
    found = mean_of(evidence(rng, count).tolist(), [f"q{number // PER_QUERY}" for number in range(count)])
    assert found is not None
    return found


def p_values(rng: np.random.Generator, sizes: list[int], *, flipped: float) -> list[float]:
    """Return what one look after the other finds of updates of these sizes."""
    held_out, nats, found = usual(rng), 0.0, []
    for size in sizes:
        seen = look(nats, held_out, evidence(rng, size, flipped=flipped).tolist(), allowed=ALLOWED)
        nats = seen.nats
        found.append(seen.p_value)
    return found


def test_without_poison_few_looks_find_anything() -> None:
    rng = np.random.default_rng(1)
    found = np.array([p_values(rng, [200] * 20, flipped=0.0) for _ in range(100)])
    assert (found < 0.01).mean() <= 0.02
    assert (found < 0.1).mean() <= 0.1


@pytest.mark.parametrize("size", [200, 50, 10])
def test_a_fifth_turned_around_is_found_and_stays_found(size: int) -> None:
    rng = np.random.default_rng(2)
    found = np.array([p_values(rng, [size] * (2000 // size), flipped=0.2) for _ in range(50)])
    after_400 = found[:, 400 // size :]
    assert (after_400 < 0.1).mean() >= 0.99
    assert (after_400 < 0.01).mean() >= 0.95


def test_it_is_gone_soon_after_the_poison() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        held_out = usual(rng)
        poisoned = look(0.0, held_out, evidence(rng, 4000, flipped=0.2).tolist(), allowed=ALLOWED)
        assert poisoned.p_value == pytest.approx(LEAST_P_VALUE)
        clean = look(poisoned.nats, held_out, evidence(rng, 800).tolist(), allowed=ALLOWED)
        assert clean.p_value > 0.1


def test_pairs_that_champions_know_nothing_of_raise_none() -> None:
    rng = np.random.default_rng(4)
    unknown = weights(np.full((400, 4), 0.25), rng.integers(0, 4, 400).tolist())
    assert look(0.0, usual(rng), unknown.tolist(), allowed=ALLOWED).p_value > 0.1


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(any), min_size=1, max_size=8),
    st.integers(0, 3),
)
def test_weights_are_bounded(given_: list[list[float]], place: int) -> None:
    likely = np.array(given_)
    likely /= likely.sum(axis=1, keepdims=True)
    found = weights(likely, [place] * len(given_))
    assert (found >= np.log(1 - TAMPERED)).all()
    assert (found < 4.9).all()


@given(
    st.floats(0, 5),
    st.lists(st.floats(-0.3, 4.9), max_size=60),
    st.floats(0, 0.01),
    st.floats(0, 1),
)
def test_a_look_has_a_p_value_and_never_falls_below_none(
    before: float, new: list[float], variance: float, each: float
) -> None:
    found = look(before, Mean(value=-0.05, variance=variance, each=each), new, allowed=ALLOWED)
    assert found.nats >= 0
    assert LEAST_P_VALUE * (1 - 1e-6) <= found.p_value <= 1


def test_cut_in_two_the_same_judgements_weigh_the_same() -> None:
    held_out = Mean(value=-0.05, variance=0.0001, each=0.5)
    new = [0.2, 0.3, 0.1, 0.25]
    whole = look(0.5, held_out, new, allowed=ALLOWED)
    first = look(0.5, held_out, new[:1], allowed=ALLOWED)
    assert look(first.nats, held_out, new[1:], allowed=ALLOWED).nats == pytest.approx(whole.nats)


def test_a_mean_needs_judgements_and_queries() -> None:
    values = [0.1, 0.2] * LEAST_JUDGEMENTS
    many = [str(number % LEAST_QUERIES) for number in range(len(values))]
    found = mean_of(values, many)
    assert found is not None
    assert found.value == pytest.approx(0.15)
    assert mean_of(values, ["q"] * len(values)) is None
    assert mean_of(values[: LEAST_JUDGEMENTS - 1], many[: LEAST_JUDGEMENTS - 1]) is None
