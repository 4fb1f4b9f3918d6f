"""Offers that change: sellers reword titles and leave attributes out. What an item truly is stays as it was."""

from __future__ import annotations

import random

import msgspec

from ops.shop.items import Item

ADDED = (
    "sale",
    "new arrival",
    "limited offer",
    "free returns",
    "last pieces",
    "bestseller",
    "customer favourite",
    "new packaging",
)
LEFT_OUT = 0.5


def revised(item: Item, *, revision: int, seed: int) -> Item:
    """Return revision `revision` (from 1) of an offer, the same for the same arguments; its title always differs
    from the offer's.

    >>> mug = Item(item_id="1", title="Mug", brand="", category=(), attributes={}, price=1.0)
    >>> revised(mug, revision=1, seed=7).title
    'last pieces Mug'
    """
    rng = random.Random(f"revision {seed} {item.item_id} {revision}")
    attributes = dict(item.attributes)
    if attributes and rng.random() < LEFT_OUT:
        del attributes[rng.choice(sorted(attributes))]
    # In front, since the end of a long title is cut off in the text that teacher and students read.
    return msgspec.structs.replace(item, title=f"{rng.choice(ADDED)} {item.title}", attributes=attributes)
