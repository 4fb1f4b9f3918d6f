import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ops.experiments.assignment import assign, place

HALVES = [("control", 0.5), ("treatment", 0.5)]
UNITS = [f"shopper-{number}" for number in range(20_000)]


def test_places_are_uniform() -> None:
    places = [place(experiment="ranking", unit=unit, salt="") for unit in UNITS]
    assert min(places) >= 0
    assert max(places) < 1
    assert stats.kstest(places, "uniform").pvalue > 0.001


@pytest.mark.parametrize(
    ("one", "other"), [(("ranking", ""), ("bids", "")), (("ranking", ""), ("ranking", "second"))]
)
def test_experiments_and_salts_are_independent(one: tuple[str, str], other: tuple[str, str]) -> None:
    table = [[0, 0], [0, 0]]
    for unit in UNITS:
        first, second = (
            assign(experiment=experiment, unit=unit, salt=salt, arms=HALVES) == "treatment"
            for experiment, salt in (one, other)
        )
        table[first][second] += 1
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_golden_values_never_change() -> None:
    assert place(experiment="ranking", unit="shopper-1", salt="") == 0.7347370025373527
    assert place(experiment="ranking", unit="köper-2", salt="s") == 0.0703052038861901
    arms = [("a", 0.2), ("b", 0.3), ("c", 0.5)]
    assert (
        "".join(assign(experiment="e", unit=str(n), salt="", arms=arms) for n in range(24))
        == "bbbbcbccccbcbcccccbbbbcb"
    )


def test_another_process_agrees() -> None:
    program = (
        "from ops.experiments.assignment import assign\n"
        "arms = [('control', 0.5), ('treatment', 0.5)]\n"
        "print(','.join(assign(experiment='e', unit=str(n), salt='s', arms=arms) for n in range(200)))"
    )
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    assert printed == ",".join(assign(experiment="e", unit=str(n), salt="s", arms=HALVES) for n in range(200))


@given(st.text(min_size=1), st.text(min_size=1), st.text())
def test_any_text_is_assigned(experiment: str, unit: str, salt: str) -> None:
    assert assign(experiment=experiment, unit=unit, salt=salt, arms=HALVES) in {"control", "treatment"}


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any), st.text(min_size=1))
def test_an_arm_without_share_gets_nobody(weights: list[int], unit: str) -> None:
    arms = [(f"arm-{index}", weight / sum(weights)) for index, weight in enumerate(weights)]
    chosen = assign(experiment="e", unit=unit, salt="", arms=arms)
    assert dict(arms)[chosen] > 0


def test_shares_are_kept() -> None:
    arms = [("a", 0.1), ("b", 0.2), ("c", 0.7)]
    chosen = [assign(experiment="e", unit=unit, salt="", arms=arms) for unit in UNITS]
    observed = [chosen.count(name) for name, _ in arms]
    assert stats.chisquare(observed, [share * len(UNITS) for _, share in arms]).pvalue > 0.001


def test_the_border_alone_moves_when_shares_change() -> None:
    wider = [("control", 0.4), ("treatment", 0.6)]
    for unit in UNITS[:2000]:
        before = assign(experiment="e", unit=unit, salt="", arms=HALVES)
        after = assign(experiment="e", unit=unit, salt="", arms=wider)
        assert before == after or 0.4 <= place(experiment="e", unit=unit, salt="") < 0.5


def test_parts_cannot_be_confused() -> None:
    assert place(experiment="ab", unit="c", salt="") != place(experiment="a", unit="bc", salt="")
    assert place(experiment="a", unit="c", salt="b") != place(experiment="a", unit="bc", salt="")


@pytest.mark.parametrize(
    "arms",
    [
        [],
        [("a", 0.5)],
        [("a", 0.5), ("a", 0.5)],
        [("", 1.0)],
        [("a", 1.5), ("b", -0.5)],
        [("a", math.nan), ("b", 1.0)],
        [("a", math.inf)],
        [("a", 0.6), ("b", 0.6)],
    ],
)
def test_wrong_arms_are_refused(arms: list[tuple[str, float]]) -> None:
    with pytest.raises(ValueError, match="expected"):
        assign(experiment="e", unit="u", salt="", arms=arms)


@pytest.mark.parametrize(("experiment", "unit"), [("", "u"), ("e", "")])
def test_empty_names_are_refused(experiment: str, unit: str) -> None:
    with pytest.raises(ValueError, match="expected an experiment and a unit"):
        assign(experiment=experiment, unit=unit, salt="", arms=HALVES)
