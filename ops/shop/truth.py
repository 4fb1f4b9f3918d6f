"""True relevance. Only shoppers, the oracle scorer and evaluations may import this module: never a model.

Grades are those of the Amazon Shopping Queries data set (Reddy et al. 2022, arXiv 2206.06588), the gains
those it ranks with: exact 1, substitute 0.1, complement 0.01, irrelevant 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from ops.shop.product_types import TYPES

#: An item that misses more of the wishes than this does not stand in for what was asked.
MAX_MISSES_OF_SUBSTITUTE = 2


class Grade(StrEnum):
    """How well an item answers a query."""

    EXACT = "E"
    SUBSTITUTE = "S"
    COMPLEMENT = "C"
    IRRELEVANT = "I"


GAINS: dict[Grade, float] = {
    Grade.EXACT: 1.0,
    Grade.SUBSTITUTE: 0.1,
    Grade.COMPLEMENT: 0.01,
    Grade.IRRELEVANT: 0.0,
}


class Facts(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What an item truly is, or what a query asks for; empty means none, or not asked.

    `product_type` is a name of `product_types.TYPES`. `compatibility` is "brand", or "brand series model", of
    the product that an accessory fits.
    """

    product_type: str = ""
    brand: str = ""
    series: str = ""
    model: str = ""
    colour: str = ""
    size: str = ""
    material: str = ""
    quantity: str = ""
    audience: str = ""
    compatibility: str = ""

    def identity(self) -> str:
        """Return brand, series and model as one text, without those that are empty."""
        return " ".join(filter(None, (self.brand, self.series, self.model)))


class Truth(Protocol):
    """True grades of (query text, item id) pairs."""

    def grade(self, query: str, item_id: str) -> Grade:
        """Return the true grade; irrelevant or KeyError where nothing is known of the pair."""
        ...

    def content(self) -> bytes:
        """Return all that the grades follow from, for a fingerprint."""
        ...


class AttributeTruth:
    """Truth of the generated shop: the logic of `grade` on hidden intents and hidden facts."""

    def __init__(self, intents: Mapping[str, Facts], facts: Mapping[str, Facts]) -> None:
        """`intents` by query text, `facts` by item id."""
        self._intents = intents
        self._facts = facts

    def grade(self, query: str, item_id: str) -> Grade:
        """Return the true grade of a pair. Raises KeyError for a query or item of another shop."""
        return grade(self._intents[query], self._facts[item_id])

    def content(self) -> bytes:
        """Return intents and facts as JSON."""
        return msgspec.json.encode([self._intents, self._facts], order="sorted")


def grade(intent: Facts, item: Facts) -> Grade:
    """Grade an item against what a query asks for.

    Exact: of the type asked for, and every wish met. Complement: of a type that goes with it, and, where one
    is made for the other, made for that very product. Irrelevant: another type; or does not fit the device
    or the person it is for; or misses more than `MAX_MISSES_OF_SUBSTITUTE` wishes. Substitute: the rest.
    A type that can replace the one asked for is one miss; brand, series and model together are one.
    """
    misses = 0
    if not intent.product_type:
        if _identity_missed(intent, item):
            return Grade.IRRELEVANT
    elif item.product_type != intent.product_type:
        asked, offered = TYPES[intent.product_type], TYPES[item.product_type]
        if offered.name in asked.complements or asked.name in offered.complements:
            return Grade.COMPLEMENT if _go_together(intent, item) else Grade.IRRELEVANT
        if offered.name not in asked.substitutes and asked.name not in offered.substitutes:
            return Grade.IRRELEVANT
        misses += 1
    if intent.compatibility and not is_made_for(item.compatibility, intent.compatibility):
        return Grade.IRRELEVANT
    if intent.audience and item.audience and item.audience != intent.audience:
        return Grade.IRRELEVANT
    misses += _identity_missed(intent, item)
    misses += sum(
        bool(wish) and wish != value
        for wish, value in (
            (intent.colour, item.colour),
            (intent.size, item.size),
            (intent.material, item.material),
            (intent.quantity, item.quantity),
        )
    )
    if misses == 0:
        return Grade.EXACT
    return Grade.SUBSTITUTE if misses <= MAX_MISSES_OF_SUBSTITUTE else Grade.IRRELEVANT


def _identity_missed(intent: Facts, item: Facts) -> bool:
    return any(
        wish and wish != value
        for wish, value in (
            (intent.brand, item.brand),
            (intent.series, item.series),
            (intent.model, item.model),
        )
    )


def _go_together(intent: Facts, item: Facts) -> bool:
    if TYPES[item.product_type].fits == intent.product_type:
        return is_made_for(item.compatibility, intent.identity())
    if TYPES[intent.product_type].fits == item.product_type:
        return is_made_for(item.identity(), intent.compatibility)
    return True


def is_made_for(device: str, asked: str) -> bool:
    """Tell whether what is made for `device` fits what was asked for: a brand, or brand, series and model."""
    return not asked or device == asked or device.startswith(f"{asked} ")
