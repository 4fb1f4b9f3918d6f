"""The generated queries: what a shopper wants (hidden) and how it is typed.

Head queries name a product type or a brand; the tail names rare combinations of attributes, whole model
names and devices, and is misspelled, abbreviated and put in other words more often. Most wishes describe an
item of the catalogue; some ask for a combination that nobody sells.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from ops.shop.catalogue import Catalogue
from ops.shop.items import TrafficQuery
from ops.shop.product_types import TYPES
from ops.shop.truth import Facts
from ops.shop.wording import misspell, write
from streams.records import TrafficClass

ZIPF_EXPONENT = 1.0
#: The share of queries with so many wishes beyond the type.
WISHES = {1: 0.22, 2: 0.36, 3: 0.28, 4: 0.14}
BRAND_ONLY = 0.02
UNSOLD = 0.1
#: Give up after so many texts in a row that were there already.
MAX_FRUITLESS = 1_000
_OPTIONAL = ("colour", "size", "material", "quantity", "audience")


def zipf_shares(count: int, exponent: float = ZIPF_EXPONENT) -> list[float]:
    """Return `count` shares of traffic, largest first, proportional to rank ** -exponent; they sum to 1."""
    weights = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    return [float(share) for share in weights / weights.sum()]


def traffic_classes(
    traffic: Sequence[TrafficQuery], *, head_share: float, torso_share: float
) -> list[TrafficClass]:
    """Return head, torso or tail for each query, by the true shares of traffic; largest share first."""
    before = np.cumsum([0.0] + [query.share for query in traffic[:-1]])
    return [
        TrafficClass.HEAD
        if at < head_share
        else TrafficClass.TORSO
        if at < head_share + torso_share
        else TrafficClass.TAIL
        for at in before
    ]


def generate(catalogue: Catalogue, *, queries: int, seed: int) -> tuple[list[TrafficQuery], dict[str, Facts]]:
    """Return `queries` distinct queries by falling share of traffic, and the hidden intent of each text.

    Raises ValueError if the catalogue is too small to think of so many.
    """
    rng = random.Random(f"queries {seed}")
    facts = [catalogue.facts[item_id] for item_id in sorted(catalogue.facts)]
    intents: dict[str, Facts] = {}
    rarity: dict[str, float] = {}
    for name in TYPES:
        intents[name] = Facts(product_type=name)
        rarity[name] = rng.uniform(0, 1.2)
    fruitless = 0
    while len(intents) < queries:
        fruitless += 1
        if fruitless > MAX_FRUITLESS:
            raise ValueError(
                f"{len(facts)} items give {len(intents)} distinct queries, expected {queries}: "
                "set shop.queries lower or shop.items higher"
            )
        intent = _intent(rng, rng.choice(facts))
        text, slips = _text(rng, intent)
        if text not in intents:
            fruitless = 0
            intents[text] = intent
            rarity[text] = _wishes(intent) + 1.5 * slips + rng.uniform(0, 1.5)
    ranked = sorted(intents, key=lambda text: rarity[text])[:queries]
    shares = zipf_shares(len(ranked))
    traffic = [TrafficQuery(text, share) for text, share in zip(ranked, shares, strict=True)]
    return traffic, {text: intents[text] for text in ranked}


def _intent(rng: random.Random, item: Facts) -> Facts:
    """Return a wish that `item` meets, or, for a share of `UNSOLD`, nearly meets."""
    if rng.random() < BRAND_ONLY:
        return Facts(brand=item.brand)
    if rng.random() < 0.1:
        return Facts(product_type=item.product_type)
    wanted: dict[str, str] = {"product_type": item.product_type}
    if item.compatibility and rng.random() < 0.8:
        brand_only = rng.random() < 0.25
        wanted["compatibility"] = _first_brand(item.compatibility) if brand_only else item.compatibility
    count = rng.choices(list(WISHES), list(WISHES.values()))[0]
    groups = [
        name for name in _OPTIONAL if getattr(item, name) and (name, item.quantity) != ("quantity", "1")
    ]
    groups += ["brand", "series", "model"] if item.model else ["brand", "series"]
    rng.shuffle(groups)
    for name in groups[:count]:
        wanted[name] = getattr(item, name)
        if name in ("series", "model"):
            wanted["brand"] = item.brand
        if name == "model":
            wanted["series"] = item.series
    if rng.random() < UNSOLD:
        attributes = TYPES[item.product_type].attributes
        replaceable = [name for name in ("colour", "size", "material") if name in wanted]
        if replaceable:
            name = rng.choice(replaceable)
            wanted[name] = rng.choice(attributes[name])
    return Facts(**wanted)


def _first_brand(device: str) -> str:
    """Return the brand of a device written as brand, series and model."""
    return device.rsplit(" ", 2)[0]


def _wishes(intent: Facts) -> int:
    return sum(bool(value) for value in _values(intent)) - 1


def _values(intent: Facts) -> Sequence[str]:
    return tuple(getattr(intent, name) for name in Facts.__struct_fields__)


def _text(rng: random.Random, intent: Facts) -> tuple[str, int]:
    """Return a query text for an intent and how many slips and detours from the plain wording it has."""
    slips = 0
    share = 0.4
    name = intent.product_type
    if name and rng.random() < 0.45:
        name = rng.choice(TYPES[name].other_names)
        slips += 1
    parts = [" ".join(filter(None, (intent.brand, intent.series, intent.model)))]
    parts += [
        write(rng, attribute, value, variant_share=share)
        for attribute in ("colour", "material")
        if (value := getattr(intent, attribute))
    ]
    parts.append(name)
    ending = [
        write(rng, attribute, value, variant_share=share)
        for attribute in ("size", "quantity", "audience")
        if (value := getattr(intent, attribute))
    ]
    if intent.compatibility:
        ending.append(f"for {intent.compatibility}" if rng.random() < 0.7 else intent.compatibility)
    parts += ending
    if rng.random() < 0.25:
        rng.shuffle(parts)
    text = " ".join(filter(None, parts)).lower()
    if rng.random() < 0.15:
        misspelled = misspell(rng, text)
        slips += misspelled != text
        text = misspelled
    return text, slips
