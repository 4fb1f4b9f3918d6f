from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from ops.experiments.assignment import assign
from ops.settings import Settings, load
from ops.shop.ad_engine import AdEngine, draw_bids
from ops.shop.items import Item
from ops.shop.process import build_engine
from ops.shop.retrieval import Retriever
from ops.shop.scorers import LexicalScorer
from ops.shop.shop import Shop
from streams.records import ExperimentState

TITLES = {"1": "red shoes", "2": "red shoes", "3": "blue shoes", "4": "shoes"}
ITEMS = {
    item_id: Item(item_id=item_id, title=title, brand="", category=(), attributes={}, price=1.0)
    for item_id, title in TITLES.items()
}


class Fixed:
    """A scorer that answers what it was told, or raises it."""

    version = "fixed"

    def __init__(self, answer: list[float] | Exception) -> None:
        self.answer = answer

    def score(self, query: str, items: Sequence[Item]) -> list[float]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def engine_with(treatment: Fixed, *, page_size: int = 3, treatment_share: float = 1.0) -> AdEngine:
    lexical = LexicalScorer(ITEMS.values())
    ticks = iter(range(1_000))
    return AdEngine(
        items=ITEMS,
        retriever=Retriever(ITEMS.values()),
        bids={"1": 0.2, "2": 0.4, "3": 0.1, "4": 0.1},
        control=lexical,
        treatment=treatment,
        fallback=lexical,
        experiment=load({"RELEVANCE_EXPERIMENT__TREATMENT_SHARE": str(treatment_share)}).experiment,
        page_size=page_size,
        clock_s=lambda: next(ticks) / 1_000,
    )


def test_pages_are_ranked_by_score_then_bid_and_cut() -> None:
    page = engine_with(Fixed([0.0] * 4), treatment_share=0).search("red shoes", "someone")
    assert [each.item.item_id for each in page.placements] == ["2", "1", "4"]
    assert page.arms == {"ranking": "control"}
    assert page.student_version == "lexical"
    assert page.latency_ms == pytest.approx(1)
    assert not page.fallback


def test_a_much_higher_bid_does_not_buy_an_irrelevant_item_the_first_place() -> None:
    engine = engine_with(Fixed([0.0, 1.0, 0.9, 0.9]))
    page = engine.search("shoes", "someone")
    assert page.placements[-1].score < 1
    assert page.arms == {"ranking": "treatment"}
    assert page.student_version == "fixed"


@pytest.mark.parametrize(
    "answer",
    [RuntimeError("no server"), [0.5], [float("nan")] * 4, [1.5] * 4, [-0.1, 0, 0, 0]],
)
def test_a_scorer_that_fails_is_replaced_counted_and_logged(
    answer: list[float] | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_with(Fixed(answer))
    with caplog.at_level(logging.ERROR):
        page = engine.search("red shoes", "someone")
    assert page.fallback
    assert page.student_version == "lexical"
    assert page.arms == {"ranking": "treatment"}
    assert [each.item.item_id for each in page.placements] == ["2", "1", "4"]
    assert engine.failures == 1
    assert "scorer fixed failed" in caplog.text


def test_a_scorer_that_stays_down_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    engine = engine_with(Fixed(RuntimeError("no server")))
    with caplog.at_level(logging.ERROR):
        for _ in range(100):
            engine.search("red shoes", "someone")
    assert engine.failures == 100
    assert len(caplog.records) == 7


def test_a_stopped_experiment_serves_everyone_the_control_until_it_runs_again() -> None:
    engine = engine_with(Fixed([0.5] * 4))
    assert engine.arm_of("someone") == "treatment"
    engine.apply(ExperimentState(experiment="another", state="stopped", reason="", since_ms=0))
    assert engine.arm_of("someone") == "treatment"
    engine.apply(ExperimentState(experiment="ranking", state="stopped", reason="slow", since_ms=0))
    page = engine.search("shoes", "someone")
    assert (page.arms, page.student_version) == ({}, "lexical")
    engine.apply(ExperimentState(experiment="ranking", state="running", reason="", since_ms=1))
    assert engine.search("shoes", "someone").arms == {"ranking": "treatment"}


def test_arms_are_those_of_the_assignment(small_settings: Settings, small_shop: Shop) -> None:
    engine = build_engine(small_settings, small_shop)
    arms = [("control", 0.5), ("treatment", 0.5)]
    for number in range(200):
        expected = assign(experiment="ranking", unit=f"shopper-{number}", salt="", arms=arms)
        assert engine.arm_of(f"shopper-{number}") == expected


def test_bids_are_positive_and_seeded() -> None:
    assert draw_bids(ITEMS, seed=1) == draw_bids(ITEMS, seed=1) != draw_bids(ITEMS, seed=2)
    assert min(draw_bids(ITEMS, seed=1).values()) > 0


def test_a_scorer_with_a_fallback_of_its_own_says_so() -> None:
    class FellBack(Fixed):
        version = "last-known"
        fell_back = True

    engine = engine_with(Fixed([0.5] * len(ITEMS)))
    scorer = FellBack([0.5] * len(engine.candidates("red")))
    engine.score_with(control=scorer, treatment=scorer)
    page = engine.search("red", "shopper")
    assert (page.student_version, page.fallback) == ("last-known", True)
    assert engine.failures == 0
