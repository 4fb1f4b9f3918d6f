"""The shop as a whole: what it offers, what is searched for, and what is truly relevant, kept apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from ops.settings import Shop as ShopSettings
from ops.shop import catalogue, queries, real_catalogue
from ops.shop.items import Item, TrafficQuery
from ops.shop.truth import AttributeTruth, Truth


@dataclass(frozen=True, slots=True)
class Shop:
    """`items` and `queries` are for everyone; `truth` is for shoppers, the oracle and evaluations only."""

    items: Mapping[str, Item]
    queries: Sequence[TrafficQuery]
    truth: Truth


def open_shop(settings: ShopSettings) -> Shop:
    """Generate the shop, or load the real catalogue that the settings name.

    Raises CatalogueError for a real catalogue that cannot be read, ValueError for settings that ask for more
    queries than the items give.
    """
    if settings.catalogue is not None:
        real = real_catalogue.load(settings.catalogue, seed=settings.seed, golden_share=settings.golden_share)
        return Shop(items=real.items, queries=real.queries, truth=real.truth)
    generated = catalogue.generate(items=settings.items, seed=settings.seed)
    traffic, intents = queries.generate(generated, queries=settings.queries, seed=settings.seed)
    return Shop(items=generated.items, queries=traffic, truth=AttributeTruth(intents, generated.facts))


def fingerprint(shop: Shop) -> str:
    """Return a hash of items, queries and truth: equal for shops that are equal in every detail."""
    digest = hashlib.sha256()
    for part in (list(shop.items.values()), list(shop.queries)):
        digest.update(msgspec.json.encode(part))
    digest.update(shop.truth.content())
    return digest.hexdigest()[:16]
