"""What the shop offers and what shoppers type: all that an ad engine or a model may see."""

from __future__ import annotations

import re

import msgspec

_WORD = re.compile(r"\w+")


class Item(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An offer as its seller wrote it.

    `brand` is empty and `attributes` incomplete where the seller left them out. `category` runs from the
    department down; `price` is in the shop's currency.
    """

    item_id: str
    title: str
    brand: str
    category: tuple[str, ...]
    attributes: dict[str, str]
    price: float


class TrafficQuery(msgspec.Struct, frozen=True, gc=False):
    """A query text and its share of traffic; the shares of a shop's queries add up to 1."""

    text: str
    share: float


def words(text: str) -> list[str]:
    """Return the lower-case words of a text: runs of letters, digits and underscores.

    >>> words('NOVA 27" Monitor, blk')
    ['nova', '27', 'monitor', 'blk']
    """
    return _WORD.findall(text.lower())
