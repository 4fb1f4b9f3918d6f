"""The generated catalogue: what each item truly is, and the offer its seller made of that.

Products (brand, series, model) come in variants (colour, size, quantity); each variant is one item. Sellers
leave attributes out, abbreviate, use other names, reorder, shout, and stuff keywords of neighbouring types:
a title that contains a query's words need not be what was asked for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from ops.shop.items import Item
from ops.shop.product_types import TYPES, ProductType
from ops.shop.truth import Facts
from ops.shop.wording import misspell, write

BRANDS_OF_DEPARTMENT = 24
BRANDS_OF_TYPE = (6, 11)
VARIANTS_OF_PRODUCT = (3, 9)
#: How sellers write: the share of values left out, written otherwise, put in the wrong leaf, misspelled, ...
OMITTED = {"brand": 0.12, "series": 0.1, "model": 0.12, "material": 0.3, "audience": 0.2, "quantity": 0.1}
OMITTED_OTHERWISE = 0.2
OMITTED_FIELD = 0.15
VARIANT_SHARE = 0.45
OTHER_NAME_SHARE = 0.45
STUFFED = 0.35
MISFILED = 0.02
MISSPELLED = 0.05
SHOUTED = 0.06

_ONSETS = "b br c d dr f fl g gr h j k kl l m n p pr qu r s sk st t tr v w z"
_VOWELS = "a e i o u ai ea io ou"
_CODAS = ("", "", "l", "n", "r", "x", "s", "nt", "k", "m", "rd")
_SERIES = """
Aero Alto Apex Arc Astra Aura Bolt Breeze Calma Cirrus Coast Comet Core Delta Dune Echo Edge Ember Essence
Fjord Flex Flow Forma Glow Grove Halo Haven Ion Jade Kite Lumo Lyra Mira Mono Nexa Nimbus Nova Onyx Orbit
Pearl Pico Prime Pulse Quartz Rapid Ridge Rio Sierra Sol Spark Strato Swift Terra Titan Trail Urban Vega
Velo Vista Wave Zen Zephyr
"""
_PUFF = """
new 2025|premium|best quality|top seller|free shipping|high quality|professional|original|gift idea|sale|
limited edition|eco friendly|ultra light|easy to clean|for home and office|heavy duty|!!|hot deal|upgraded|
stylish modern design|5 star|great value|fast delivery|multi purpose|anti slip|waterproof
"""
_PUFFS = tuple(puff.strip() for puff in _PUFF.split("|"))


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Offers by item id, and apart from them what each item truly is. `brands` are those of each type."""

    items: Mapping[str, Item]
    facts: Mapping[str, Facts]
    brands: Mapping[str, Sequence[str]]


def generate(*, items: int, seed: int) -> Catalogue:
    """Return exactly `items` offers; the same arguments give the same catalogue."""
    rng = random.Random(f"catalogue {seed}")
    brands = _brands(rng)
    weights = {name: rng.lognormvariate(0, 0.35) for name in TYPES}
    total = sum(weights.values())
    all_facts: list[tuple[Facts, float]] = []
    made: dict[str, list[Facts]] = {}
    due = 0.0
    # Devices come before the accessories made for them.
    for product_type in sorted(TYPES.values(), key=lambda each: bool(each.fits)):
        due += items * weights[product_type.name] / total
        count = max(1, round(due) - len(all_facts))
        variants = _variants(rng, product_type, brands[product_type.name], made.get(product_type.fits, []))
        chosen = [next(variants) for _ in range(min(count, items - len(all_facts)))]
        made[product_type.name] = [facts for facts, _ in chosen]
        all_facts += chosen
    rng.shuffle(all_facts)
    offers: dict[str, Item] = {}
    facts_of: dict[str, Facts] = {}
    for number, (facts, price) in enumerate(all_facts):
        item_id = f"sku-{number:06d}"
        offers[item_id] = _offer(rng, item_id, facts, price, brands)
        facts_of[item_id] = facts
    return Catalogue(items=offers, facts=facts_of, brands=brands)


def _brands(rng: random.Random) -> dict[str, tuple[str, ...]]:
    used: set[str] = set()
    pools: dict[str, list[str]] = {}
    onsets, vowels = _ONSETS.split(), _VOWELS.split()
    for department in dict.fromkeys(each.path[0] for each in TYPES.values()):
        pool = pools[department] = []
        while len(pool) < BRANDS_OF_DEPARTMENT:
            syllables = [rng.choice(onsets) + rng.choice(vowels) for _ in range(rng.choice((2, 2, 3)))]
            name = ("".join(syllables) + rng.choice(_CODAS)).capitalize()
            if rng.random() < 0.12:
                name += " " + rng.choice(("Home", "Works", "Labs", "Co", "Sport", "One"))
            if name not in used:
                used.add(name)
                pool.append(name)
    return {
        each.name: tuple(rng.sample(pools[each.path[0]], rng.randint(*BRANDS_OF_TYPE)))
        for each in TYPES.values()
    }


def _variants(
    rng: random.Random, product_type: ProductType, brands: Sequence[str], devices: Sequence[Facts]
) -> Iterator[tuple[Facts, float]]:
    """Yield items (facts, price) of one type without end: products, each in some variants."""
    levels = {brand: rng.lognormvariate(0, 0.35) for brand in brands}
    series = _SERIES.split()
    lines = {brand: rng.sample(series, 3) for brand in brands}
    while True:
        brand = rng.choice(brands)
        values = {
            name: _skewed(rng, product_type.attributes[name])
            for name in ("material", "audience")
            if name in product_type.attributes
        }
        product = Facts(
            product_type=product_type.name,
            brand=brand,
            series=rng.choice(lines[brand]),
            model=_model(rng) if product_type.has_models else "",
            compatibility=rng.choice(devices).identity() if product_type.fits else "",
            **values,
        )
        level = product_type.price * levels[brand] * rng.lognormvariate(0, 0.15)
        seen: set[Facts] = set()
        for _ in range(rng.randint(*VARIANTS_OF_PRODUCT)):
            varied = {
                name: _skewed(rng, product_type.attributes[name])
                for name in ("colour", "size", "quantity")
                if name in product_type.attributes
            }
            facts = msgspec.structs.replace(product, **varied)
            if facts in seen and rng.random() < 0.7:
                continue
            seen.add(facts)
            quantity = int(facts.quantity or 1)
            yield facts, max(1, round(level * rng.lognormvariate(0, 0.08) * quantity**0.5)) - 0.01


def _model(rng: random.Random) -> str:
    letters = "".join(rng.choices("ABCDEGHKLMNPRSTVXZ", k=rng.choice((1, 2))))
    return letters + rng.choice(("", "-")) + str(rng.choice((rng.randint(2, 99), 10 * rng.randint(10, 99))))


def _skewed(rng: random.Random, values: Sequence[str]) -> str:
    """Choose a value, the first ones more often."""
    return values[int(len(values) * rng.random() ** 1.5)]


def _offer(
    rng: random.Random, item_id: str, facts: Facts, price: float, brands: Mapping[str, Sequence[str]]
) -> Item:
    product_type = TYPES[facts.product_type]
    shown = {
        name: write(rng, name, value, variant_share=0.3)
        for name in ("series", "model", *product_type.attributes, "compatibility")
        if (value := getattr(facts, name))
        and (name, value) != ("quantity", "1")
        and rng.random() >= OMITTED_FIELD
    }
    filed = product_type
    if rng.random() < MISFILED:
        filed = rng.choice([each for each in TYPES.values() if each.path[0] == product_type.path[0]])
    return Item(
        item_id=item_id,
        title=_title(rng, facts, product_type, brands),
        brand=facts.brand if rng.random() >= 0.04 else "",
        category=(*filed.path, filed.name.capitalize()),
        attributes=shown,
        price=price,
    )


def _title(
    rng: random.Random, facts: Facts, product_type: ProductType, brands: Mapping[str, Sequence[str]]
) -> str:
    def told(name: str) -> str:
        value = getattr(facts, name)
        if not value or (name, value) == ("quantity", "1"):
            return ""
        if rng.random() < OMITTED.get(name, OMITTED_OTHERWISE):
            return ""
        return write(rng, name, value, variant_share=VARIANT_SHARE)

    name = product_type.name
    if rng.random() < OTHER_NAME_SHARE:
        name = rng.choice(product_type.other_names)
    head = [told("brand"), " ".join(filter(None, (told("series"), told("model"))))]
    middle = [told("colour"), told("material"), name]
    tail = [told("size"), told("quantity"), told("audience")]
    if facts.compatibility:
        tail.append(rng.choice(("for {}", "fits {}", "compatible with {}")).format(facts.compatibility))
    rng.shuffle(tail)
    if rng.random() < 0.3:
        rng.shuffle(middle)
    blocks = [*head, *middle, *tail]
    if rng.random() < 0.15:
        blocks = [*middle, *head, *tail]
    if rng.random() < STUFFED:
        blocks.append(_stuffing(rng, product_type, brands))
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        blocks.insert(rng.choice((0, len(blocks), len(blocks))), rng.choice(_PUFFS))
    title = rng.choice((" ", " ", " ", ", ", " - ", " | ")).join(filter(None, blocks))
    if rng.random() < MISSPELLED:
        title = misspell(rng, title)
    return title.upper() if rng.random() < SHOUTED else title[0].upper() + title[1:]


def _stuffing(rng: random.Random, product_type: ProductType, brands: Mapping[str, Sequence[str]]) -> str:
    """Return words that shoppers look for and this item is not: related types, rival brands, other values."""
    related = sorted(product_type.substitutes | product_type.complements)
    choices = [
        f"not {rng.choice(brands[product_type.name])}",
        f"like {rng.choice(brands[product_type.name])}",
        " ".join(rng.sample(product_type.other_names, min(2, len(product_type.other_names)))),
        "for men women kids",
    ]
    if related:
        choices += [f"for {rng.choice(related)}", f"{rng.choice(related)} {rng.choice(related)}"]
    if colours := product_type.attributes.get("colour"):
        choices.append("also in " + " ".join(rng.sample(colours, 2)))
    if sizes := product_type.attributes.get("size"):
        choices.append("available in " + ", ".join(rng.sample(sizes, 2)))
    return rng.choice(choices)
