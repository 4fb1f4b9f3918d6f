import numpy as np
import pytest

from ops.evaluation.pairs import scored_pairs

GAINS = {"E": 1.0, "S": 0.1, "I": 0.0}


def test_columns_become_arrays_and_queries_are_numbered_in_their_order() -> None:
    pairs = scored_pairs(
        gains=GAINS,
        queries=["b", "a", "b"],
        scores=[0.5, 0, 1],
        grades=["S", "I", "E"],
        predicted=["E", "I", "E"],
        strata=["head", "tail", "head"],
    )
    assert (len(pairs), pairs.queries) == (3, 2)
    assert pairs.query.tolist() == [0, 1, 0]
    assert pairs.relevant.tolist() == [False, False, True]
    assert pairs.gain.tolist() == [0.1, 0, 1]
    assert pairs.predicted is not None
    assert pairs.predicted.tolist() == [0, 2, 0]


def test_cuts_are_all_pairs_and_each_stratum_with_its_own_query_numbers() -> None:
    pairs = scored_pairs(
        gains=GAINS,
        queries=["b", "a", "c"],
        scores=[0.1, 0.2, 0.3],
        grades=["S", "I", "E"],
        strata=["head", "tail", "tail"],
    )
    cuts = pairs.cuts()
    assert list(cuts) == ["all", "head", "tail"]
    assert cuts["all"] is pairs
    assert cuts["tail"].query.tolist() == [0, 1]
    assert cuts["tail"].score.tolist() == [0.2, 0.3]
    assert cuts["tail"].predicted is None


def test_pairs_without_traffic_have_one_cut() -> None:
    pairs = scored_pairs(gains=GAINS, queries=["b"], scores=[0.1], grades=["S"])
    assert list(pairs.cuts()) == ["all"]


@pytest.mark.parametrize(
    ("scores", "grades", "message"),
    [
        ([0.1], ["E", "S"], "expected 2 scores, one for each pair, got 1"),
        ([0.1, 0.2], ["E"], "expected 2 grades, one for each pair, got 1"),
        ([0.1, 1.5], ["E", "S"], r"expected scores in \[0, 1\], got 1.5 at 1"),
        ([float("nan"), 0.5], ["E", "S"], r"expected scores in \[0, 1\], got nan at 0"),
        ([0.1, 0.2], ["E", "X"], "expected grades among E, S, I, got 'X'"),
    ],
)
def test_columns_that_make_no_sense_are_refused(scores: list[float], grades: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scored_pairs(gains=GAINS, queries=["a", "b"], scores=scores, grades=grades)


def test_new_scores_are_checked_as_well() -> None:
    pairs = scored_pairs(gains=GAINS, queries=["a", "b"], scores=[0, 1], grades=["E", "S"])
    assert pairs.with_scores(np.array([0.5, 0.25])).score.tolist() == [0.5, 0.25]
    with pytest.raises(ValueError, match="expected 2 scores"):
        pairs.with_scores(np.array([0.5]))
