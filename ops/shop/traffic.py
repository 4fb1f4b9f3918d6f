"""Searches, and all the records that follow from each: the query, its impressions, what the shopper does."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np

from ops.shop.ad_engine import AdEngine, Page
from ops.shop.scorers import Scorer
from ops.shop.shop import Shop
from ops.shop.shoppers import Deed, Population, Shopper, browse, chances
from ops.shop.truth import GAINS
from ops.shop.ubi_writer import event_record, query_record
from streams.records import Action
from streams.topics import UBI_EVENTS, UBI_QUERIES

SESSION_MS = 30 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Record:
    """A record that is due on `topic` at `due_ms` (epoch). `kind` is `search`, the action's name, or `item`."""

    due_ms: int
    topic: str
    key: str
    kind: str
    value: dict[str, Any]


class Traffic:
    """A reproducible stream of searches: the same shop, seed and start give the same records."""

    def __init__(
        self,
        shop: Shop,
        engine: AdEngine,
        population: Population,
        *,
        seed: int,
        start_ms: int,
        speed: float = 1.0,
    ) -> None:
        """`start_ms` is epoch time; it goes into every id, so that runs started at different times differ.

        At `speed` n what a shopper does after a search comes n times as soon, and n times as many search. Records are
        stamped with the wall's time all the same: windows and freshness are measured by it.
        """
        self._shop = shop
        self._engine = engine
        self._population = population
        self._speed = speed
        self._rng = np.random.default_rng([seed, start_ms])
        self._cumulative = np.cumsum([query.share for query in shop.queries])

    def gap_s(self, searches_per_s: float) -> float:
        """Return the time to the next search of a Poisson stream."""
        return float(self._rng.exponential(1 / (self._speed * searches_per_s)))

    def search(self, at_ms: int) -> list[Record]:
        """Return the records of one search under the experiment, in order of time."""
        shopper, query = self._who_and_what()
        return self._records(shopper, self._engine.search(query, shopper.client_id), at_ms)

    def search_before_experiment(self, at_ms: int, scorer: Scorer) -> list[Record]:
        """Return the records of one search that `scorer` ranks and that has no arms."""
        shopper, query = self._who_and_what()
        return self._records(shopper, self._engine.rank(query, scorer), at_ms)

    def _who_and_what(self) -> tuple[Shopper, str]:
        shopper = self._population.draw(self._rng)
        at = int(np.searchsorted(self._cumulative, self._rng.random()))
        return shopper, self._shop.queries[min(at, len(self._shop.queries) - 1)].text

    def _records(self, shopper: Shopper, page: Page, at_ms: int) -> list[Record]:
        gains = [GAINS[self._shop.truth.grade(page.query, each.item.item_id)] for each in page.placements]
        prices = [each.item.price for each in page.placements]
        deeds = [Deed(Action.IMPRESSION, position, 0) for position in range(1, len(gains) + 1)]
        deeds += browse(self._rng, chances(shopper, gains, prices))
        query_id, response_id, *event_ids = self._ids(2 + len(deeds))
        session_id = f"{shopper.client_id}-{at_ms // SESSION_MS}"
        query = query_record(
            page,
            query_id=query_id,
            response_id=response_id,
            client_id=shopper.client_id,
            session_id=session_id,
            at_ms=at_ms,
        )
        records = [Record(at_ms, UBI_QUERIES, query_id, "search", query)]
        for deed, event_id in zip(deeds, event_ids, strict=True):
            due_ms = at_ms + round(deed.delay_ms / self._speed)
            event = event_record(
                page,
                deed.action,
                position=deed.position,
                event_id=event_id,
                query_id=query_id,
                client_id=shopper.client_id,
                session_id=session_id,
                at_ms=due_ms,
                quantity=deed.quantity,
            )
            records.append(Record(due_ms, UBI_EVENTS, query_id, deed.action.value, event))
        return records

    def _ids(self, count: int) -> list[str]:
        drawn = self._rng.bytes(16 * count)
        return [str(uuid.UUID(bytes=drawn[at : at + 16], version=4)) for at in range(0, len(drawn), 16)]
