"""The ad engine: candidates for a query, scored by the scorer of the shopper's arm, ranked by score and bid.

rank value = relevance score x bid ** BID_WEIGHT, best first: relevance leads, and between items of about the
same relevance the higher bid wins. The engine never sees the truth unless it is given the oracle as a scorer.

With a feature store, a search reads the engagement of all its candidates in one go and logs what it read of those it
shows.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ops.experiments.assignment import assign
from ops.settings import Experiment
from ops.shop.feature_reads import EngineFeatures
from ops.shop.items import Item
from ops.shop.retrieval import Retriever
from ops.shop.scorers import Scorer
from streams.records import EngagementReads, ExperimentState

BID_WEIGHT = 0.25
#: Bids are log-normal around this many units of the shop's currency per click.
TYPICAL_BID = 0.35
BID_SPREAD = 0.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Placement:
    """An item on a page, with the relevance score in [0, 1] and the bid that ranked it."""

    item: Item
    score: float
    bid: float


@dataclass(frozen=True, slots=True)
class Page:
    """The answer to a search, best first. `student_version` names the scorer that did score; `features` is what was
    read of the feature store for the placements, None without one."""

    query: str
    arms: dict[str, str]
    student_version: str
    latency_ms: float
    fallback: bool
    placements: tuple[Placement, ...]
    features: EngagementReads | None = None


def draw_bids(item_ids: Iterable[str], *, seed: int) -> dict[str, float]:
    """Return a bid > 0 for each item, the same for the same ids in the same order and seed."""
    rng = random.Random(f"bids {seed}")
    return {item_id: round(TYPICAL_BID * rng.lognormvariate(0, BID_SPREAD), 4) for item_id in item_ids}


class AdEngine:
    """Serves pages. `failures` counts how often a scorer raised or answered nonsense."""

    def __init__(
        self,
        *,
        items: Mapping[str, Item],
        retriever: Retriever,
        bids: Mapping[str, float],
        control: Scorer,
        treatment: Scorer,
        fallback: Scorer,
        experiment: Experiment,
        page_size: int,
        clock_s: Callable[[], float] = time.perf_counter,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        """`fallback` scores when an arm's scorer fails and must not fail itself; `clock_s` times latency, `wall_us`
        dates what was read."""
        self._items = dict(items)
        self._retriever = retriever
        self._bids = bids
        self._scorers = {experiment.control: control, experiment.treatment: treatment}
        self._fallback = fallback
        self._experiment = experiment
        self._page_size = page_size
        self._clock_s = clock_s
        self._features: EngineFeatures | None = None
        self._wall_us = wall_us
        self._stopped = False
        self.failures = 0

    def apply(self, state: ExperimentState) -> None:
        """Start or stop the experiment if `state` is about this engine's one."""
        if state.experiment == self._experiment.name:
            self._stopped = state.state == "stopped"

    def read_from(self, features: EngineFeatures) -> None:
        """Read features for every search from now on."""
        self._features = features

    def score_with(self, *, control: Scorer, treatment: Scorer) -> None:
        """Score the arms with these from now on."""
        self._scorers = {self._experiment.control: control, self._experiment.treatment: treatment}

    def replace(self, item: Item) -> None:
        """Offer an item as it is now. Raises KeyError for one that was not there."""
        self._retriever.replace(item)
        self._items[item.item_id] = item

    def arm_of(self, client_id: str) -> str:
        """Return the shopper's arm while the experiment runs."""
        experiment = self._experiment
        share = experiment.treatment_share
        return assign(
            experiment=experiment.name,
            unit=client_id,
            salt=experiment.salt,
            arms=[(experiment.control, 1 - share), (experiment.treatment, share)],
        )

    def search(self, query: str, client_id: str) -> Page:
        """Return the shopper's page: under the experiment, or, once it is stopped, the control's without arms.

        Arms after the stop would show the treatment's shoppers under both arms.
        """
        if self._stopped:
            return self.rank(query, self.scorer_of(self._experiment.control), features=self._features)
        arm = self.arm_of(client_id)
        arms = {self._experiment.name: arm}
        return self.rank(query, self.scorer_of(arm), arms=arms, features=self._features)

    def scorer_of(self, arm: str) -> Scorer:
        """Return an arm's scorer. Raises KeyError for an unknown arm."""
        return self._scorers[arm]

    def candidates(self, query: str) -> list[Item]:
        """Return what is scored for a query, in retrieval's order."""
        return [self._items[item_id] for item_id in self._retriever.candidates(query)]

    def rank(
        self,
        query: str,
        scorer: Scorer,
        *,
        arms: dict[str, str] | None = None,
        features: EngineFeatures | None = None,
    ) -> Page:
        """Return the page that `scorer` makes, outside any experiment if no arms are given; features are read only
        where they are given."""
        started_s = self._clock_s()
        candidates = self.candidates(query)
        read = features.read(query, [item.item_id for item in candidates]) if features else None
        fallback = False
        try:
            scores = _checked(scorer.score(query, candidates), len(candidates))
            # A scorer with a fallback of its own says so.
            fallback = bool(getattr(scorer, "fell_back", False))
        except Exception:
            self.failures += 1
            # At 1, 2, 4, 8, ... failures, so that a scorer that is down does not fill the disk.
            if self.failures & (self.failures - 1) == 0:
                logger.exception(
                    "scorer %s failed (%d times by now); %s scores",
                    scorer.version,
                    self.failures,
                    self._fallback.version,
                )
            scorer, fallback = self._fallback, True
            scores = scorer.score(query, candidates)
        placements = [
            Placement(item, score, self._bids[item.item_id])
            for item, score in zip(candidates, scores, strict=True)
        ]
        # Sorting is stable: retrieval's order decides between equals.
        placements.sort(key=_rank_value, reverse=True)
        shown = tuple(placements[: self._page_size])
        return Page(
            query=query,
            arms=arms or {},
            student_version=scorer.version,
            latency_ms=(self._clock_s() - started_s) * 1000,
            fallback=fallback,
            placements=shown,
            features=read.of([each.item.item_id for each in shown], served_us=self._wall_us())
            if read
            else None,
        )


def _rank_value(placement: Placement) -> float:
    return placement.score * math.pow(placement.bid, BID_WEIGHT)


def _checked(scores: Sequence[float], expected: int) -> Sequence[float]:
    if len(scores) != expected:
        raise ValueError(f"expected {expected} scores, got {len(scores)}")
    for score in scores:
        if not 0 <= score <= 1:
            raise ValueError(f"expected scores in [0, 1], got {score!r}")
    return scores
