"""The gate on simulated students: an equal challenger passes seldom, a better one often, a worse one never."""

from __future__ import annotations

import numpy as np
import pytest

from ops.evaluation.pairs import ScoredPairs, scored_pairs
from ops.settings import Gate
from students.gate.decision import Decision, decide

GAINS = {"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0}
GATE = Gate(alpha=0.05, margin=0.02)


class Simulated:
    """Queries with pairs whose true relevance two students guess; the better the larger `skill` is."""

    def __init__(self, rng: np.random.Generator, *, queries: int, per_query: int = 6) -> None:
        self._rng = rng
        self._query = np.repeat(np.arange(queries), per_query)
        hard = rng.normal(0, 0.7, queries)[self._query]
        self._truth = rng.normal(0, 1, len(self._query))
        self._shared = hard + rng.normal(0, 0.7, len(self._query))
        cuts = np.quantile(self._truth, [0.2, 0.35, 0.65])
        self._grades = [tuple(GAINS)[3 - place] for place in np.searchsorted(cuts, self._truth)]

    def scored(self, skill: float) -> ScoredPairs:
        noise = self._shared + self._rng.normal(0, 0.5, len(self._truth))
        scores = 1 / (1 + np.exp(-(skill * self._truth + noise)))
        return scored_pairs(gains=GAINS, queries=self._query.tolist(), scores=scores, grades=self._grades)


def decided(rng: np.random.Generator, *, ours: float, theirs: float = 1.0, queries: int = 60) -> Decision:
    golden, tail = Simulated(rng, queries=80), Simulated(rng, queries=queries)
    return decide(
        golden=(golden.scored(ours), golden.scored(theirs)),
        tail=(tail.scored(ours), tail.scored(theirs)),
        pair_ms=(1.0, 1.0),
        gate=GATE,
        seed=int(rng.integers(1 << 30)),
    )


def share_passed(*, ours: float, trials: int = 80) -> float:
    rng = np.random.default_rng(5)
    return sum(decided(rng, ours=ours).passed for _ in range(trials)) / trials


def test_an_equal_challenger_passes_at_most_alpha() -> None:
    assert share_passed(ours=1.0) <= GATE.alpha


def test_the_tails_test_alone_keeps_its_level() -> None:
    rng = np.random.default_rng(6)
    loose = GATE.model_copy(update={"margin": 1.0, "calibration_margin": 1.0})
    golden = Simulated(rng, queries=12)
    same = golden.scored(1.0), golden.scored(1.0)
    passed, trials = 0, 400
    for _ in range(trials):
        tail = Simulated(rng, queries=40)
        pairs = tail.scored(1.0), tail.scored(1.0)
        passed += decide(golden=same, tail=pairs, pair_ms=(1, 1), gate=loose, seed=1).passed
    # Three standard errors of a share of 5 % in 400.
    assert passed / trials <= GATE.alpha + 3 * np.sqrt(0.05 * 0.95 / trials)


def test_a_better_challenger_passes_and_a_worse_one_does_not() -> None:
    assert share_passed(ours=1.8, trials=30) >= 0.8
    assert share_passed(ours=0.6, trials=30) == 0


def test_better_on_the_tail_does_not_buy_worse_overall() -> None:
    rng = np.random.default_rng(7)
    golden, tail = Simulated(rng, queries=80), Simulated(rng, queries=80)
    found = decide(
        golden=(golden.scored(0.3), golden.scored(1.0)),
        tail=(tail.scored(2.0), tail.scored(1.0)),
        pair_ms=(1, 1),
        gate=GATE,
        seed=1,
    )
    assert not found.passed
    assert "golden auc may be worse by" in found.why


@pytest.mark.parametrize(("ours_ms", "passed"), [(1.4, True), (1.6, False)])
def test_a_slower_challenger_is_kept_out(ours_ms: float, passed: bool) -> None:
    rng = np.random.default_rng(8)
    golden, tail = Simulated(rng, queries=80), Simulated(rng, queries=80)
    found = decide(
        golden=(golden.scored(2.0), golden.scored(1.0)),
        tail=(tail.scored(2.0), tail.scored(1.0)),
        pair_ms=(ours_ms, 1.0),
        gate=GATE,
        seed=1,
    )
    assert found.passed is passed
    assert found.figures["pair_ms"] == ours_ms
    assert passed or "a pair takes 1.60 ms" in found.why


def test_worse_calibration_is_kept_out() -> None:
    rng = np.random.default_rng(9)
    golden, tail = Simulated(rng, queries=80), Simulated(rng, queries=80)
    ours = golden.scored(2.0)
    found = decide(
        golden=(ours.with_scores(0.5 + ours.score / 2), golden.scored(1.0)),
        tail=(tail.scored(2.0), tail.scored(1.0)),
        pair_ms=(1, 1),
        gate=GATE,
        seed=1,
    )
    assert not found.passed
    assert "calibration is" in found.why


def test_without_enough_tail_queries_nothing_passes() -> None:
    found = decided(np.random.default_rng(10), ours=3.0, queries=29)
    assert not found.passed
    assert "29 unseen tail queries, 30 are needed" in found.why
    empty = scored_pairs(gains=GAINS, queries=[], scores=[], grades=[])
    nothing = decide(golden=(empty, empty), tail=(empty, empty), pair_ms=(1, 1), gate=GATE, seed=1)
    assert not nothing.passed
    assert "golden auc has no interval" in nothing.why
