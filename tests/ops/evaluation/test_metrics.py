import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, average_precision_score, cohen_kappa_score, roc_auc_score

from ops.evaluation.metrics import (
    METRICS,
    Metric,
    UndefinedError,
    accuracy,
    accuracy_of,
    auc,
    ece,
    kappa,
    ndcg,
    pr_auc,
    ranked_queries,
    spearman,
)
from ops.evaluation.pairs import ScoredPairs, scored_pairs

GAINS = {"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0}


def value(metric: Metric, pairs: ScoredPairs) -> float:
    return float(metric(pairs)(np.ones((1, pairs.queries)))[0])


def made(queries: str, scores: list[float], grades: str, predicted: str | None = None) -> ScoredPairs:
    """Make pairs; a letter of `queries` and `grades` is one pair's."""
    return scored_pairs(gains=GAINS, queries=queries, scores=scores, grades=grades, predicted=predicted)


@st.composite
def graded_pairs(draw: st.DrawFn) -> ScoredPairs:
    count = draw(st.integers(2, 30))

    def column(values: st.SearchStrategy[str]) -> list[str]:
        return draw(st.lists(values, min_size=count, max_size=count))

    # Few different scores, so that ties are common.
    scores = draw(st.lists(st.integers(0, 6), min_size=count, max_size=count))
    return scored_pairs(
        gains=GAINS,
        queries=column(st.sampled_from("abcd")),
        scores=[score / 6 for score in scores],
        grades=column(st.sampled_from("ESCI")),
        predicted=column(st.sampled_from("ESCI")),
    )


def repeated(pairs: ScoredPairs, counts: list[int]) -> ScoredPairs:
    """Return the pairs with each query's repeated; every repetition is a query of its own."""
    rows = [
        (row, copy)
        for copy in range(max(counts))
        for row in range(len(pairs))
        if counts[pairs.query[row]] > copy
    ]
    at = [row for row, _ in rows]
    assert pairs.predicted is not None
    return scored_pairs(
        gains=GAINS,
        queries=[(int(pairs.query[row]), copy) for row, copy in rows],
        scores=pairs.score[at],
        grades=[pairs.labels[place] for place in pairs.grade[at]],
        predicted=[pairs.labels[place] for place in pairs.predicted[at]],
    )


def test_auc_by_hand() -> None:
    # Relevant 0.9 and 0.4 against 0.4 and 0.1: won, won, tied, won.
    assert value(auc, made("aabb", [0.9, 0.4, 0.4, 0.1], "EESI")) == pytest.approx(3.5 / 4)


def test_average_precision_by_hand() -> None:
    # Relevant ones stand first and third: precision 1 and 2/3.
    assert value(pr_auc, made("aaaa", [0.9, 0.8, 0.7, 0.1], "EIEI")) == pytest.approx((1 + 2 / 3) / 2)


def test_ndcg_by_hand() -> None:
    pairs = made("aaabb", [0.9, 0.5, 0.1, 0.2, 0.3], "SEIES")
    best = 1 + 0.1 / math.log2(3)
    first = (0.1 + 1 / math.log2(3)) / best
    second = (0.1 + 1 / math.log2(3)) / best
    assert value(ndcg, pairs) == pytest.approx((first + second) / 2)


def test_ndcg_looks_at_ten_places() -> None:
    scores = [1 - place / 20 for place in range(11)]
    assert value(ndcg, made("a" * 11, scores, "I" * 10 + "E")) == 0
    assert value(ndcg, made("a" * 11, scores, "I" * 9 + "EI")) == pytest.approx(1 / math.log2(11))


def test_ndcg_of_ties_is_the_mean_of_their_orders() -> None:
    assert value(ndcg, made("aa", [0.5, 0.5], "EI")) == pytest.approx((1 + 1 / math.log2(3)) / 2)


def test_ndcg_leaves_out_queries_without_gain_or_with_one_item() -> None:
    pairs = made("aabbc", [0.9, 0.5, 0.3, 0.2, 0.1], "EIIIE")
    assert ranked_queries(pairs) == 1
    assert value(ndcg, pairs) == 1
    with pytest.raises(UndefinedError, match="no query has two items and a gain above 0"):
        ndcg(made("bbc", [0.3, 0.2, 0.1], "IIE"))


def test_spearman_by_hand() -> None:
    # Ranks 3 1 2 against 3 2 1: 1 - 6 * 2 / (3 * 8).
    assert value(spearman, made("aaa", [0.9, 0.1, 0.5], "ESI")) == pytest.approx(0.5)


def test_kappa_by_hand() -> None:
    # Known E E I I, predicted E S I I: one step of three off; by chance 4.5 + 4 + ... on average.
    pairs = made("aabb", [1, 1, 0, 0], "EEII", "ESII")
    observed = 1 / 4
    expected = (2 * (0 + 1 + 2 * 9) + 2 * (9 + 4 + 0)) / 16
    assert value(kappa, pairs) == pytest.approx(1 - observed / expected)


def test_accuracy_by_hand() -> None:
    pairs = made("aabb", [1, 1, 0, 0], "EEIS", "ESIS")
    assert value(accuracy, pairs) == 0.75
    assert value(accuracy_of("E"), pairs) == 0.5
    with pytest.raises(UndefinedError, match="no pair has grade C"):
        accuracy_of("C")(pairs)


def test_ece_by_hand() -> None:
    # Bin [0.9, 1]: scores 0.9 and 1, gains 1 and 0; bin [0.2, 0.3): 0.25 against 0.1.
    pairs = made("aab", [0.9, 1.0, 0.25], "EIS")
    assert value(ece, pairs) == pytest.approx((abs(1.9 - 1) + abs(0.25 - 0.1)) / 3)


def test_ece_of_yes_and_no_is_against_relevance() -> None:
    pairs = scored_pairs(
        gains={"Yes": 1, "No": 0}, queries="abcd", scores=[0.75] * 4, grades=["Yes", "Yes", "Yes", "No"]
    )
    assert value(ece, pairs) == 0


@given(graded_pairs())
def test_metrics_are_those_of_scikit_learn_and_scipy(pairs: ScoredPairs) -> None:
    relevant = pairs.relevant
    assert pairs.predicted is not None
    if 0 < relevant.sum() < len(pairs):
        assert value(auc, pairs) == pytest.approx(roc_auc_score(relevant, pairs.score))
        assert value(pr_auc, pairs) == pytest.approx(average_precision_score(relevant, pairs.score))
    if len(set(pairs.score)) > 1 and len(set(pairs.gain)) > 1:
        assert value(spearman, pairs) == pytest.approx(spearmanr(pairs.score, pairs.gain).statistic)
    if len({*pairs.grade, *pairs.predicted}) > 1:
        theirs = cohen_kappa_score(pairs.grade, pairs.predicted, weights="quadratic", labels=range(4))
        assert value(kappa, pairs) == pytest.approx(theirs)
    assert value(accuracy, pairs) == pytest.approx(accuracy_score(pairs.grade, pairs.predicted))


@given(graded_pairs(), st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_whole_weights_are_repetitions(pairs: ScoredPairs, counts: list[int]) -> None:
    counts = counts[: pairs.queries]
    if not any(counts):
        return
    again = repeated(pairs, counts)
    for metric in METRICS.values():
        try:
            statistic = metric(pairs)
        except UndefinedError:
            with pytest.raises(UndefinedError):
                metric(again)
            continue
        found = float(statistic(np.array([counts], dtype=np.float64))[0])
        try:
            assert found == pytest.approx(value(metric, again))
        except UndefinedError:
            assert math.isnan(found)


@pytest.mark.parametrize(
    ("metric", "pairs", "why"),
    [
        (auc, made("ab", [0.1, 0.2], "EE"), "2 of 2 pairs are relevant"),
        (pr_auc, made("ab", [0.1, 0.2], "IS"), "0 of 2 pairs are relevant"),
        (auc, made("", [], ""), "0 of 0 pairs are relevant"),
        (spearman, made("ab", [0.5, 0.5], "ES"), "all 2 pairs have the same score"),
        (spearman, made("ab", [0.1, 0.5], "SS"), "all 2 pairs have the same gain"),
        (kappa, made("ab", [0.1, 0.5], "SS"), "no grades predicted"),
        (kappa, made("ab", [0.1, 0.5], "SS", "SS"), "are the same"),
        (accuracy, made("ab", [0.1, 0.5], "SS"), "no grades predicted"),
        (ndcg, made("", [], ""), "no query"),
        (ece, made("", [], ""), "no pairs"),
        (accuracy, made("", [], "", ""), "no pairs"),
    ],
)
def test_what_is_undefined_says_why(metric: Callable[..., object], pairs: ScoredPairs, why: str) -> None:
    with pytest.raises(UndefinedError, match=why):
        metric(pairs)
