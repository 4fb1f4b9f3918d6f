"""How sellers and shoppers write a value: synonyms, abbreviations, units their own way, slips."""

from __future__ import annotations

import random
import re

#: Canonical value -> other ways to write it. No way stands for two values of one attribute.
VARIANTS: dict[str, tuple[str, ...]] = {
    "black": ("blk", "jet black", "noir"),
    "white": ("wht", "snow white"),
    "grey": ("gray", "anthracite", "gry"),
    "blue": ("royal blue", "blu"),
    "navy": ("navy blue", "dark blue"),
    "red": ("crimson", "rd"),
    "green": ("olive", "grn"),
    "beige": ("sand", "cream"),
    "pink": ("rosa", "pnk"),
    "yellow": ("lemon", "ylw"),
    "purple": ("violet", "lilac"),
    "orange": ("tangerine", "orng"),
    "turquoise": ("teal", "aqua"),
    "silver": ("slv", "chrome"),
    "gold": ("golden", "gld"),
    "brown": ("chocolate", "brn"),
    "natural": ("untreated", "raw"),
    "M": ("medium", "sz M"),
    "L": ("large", "sz L"),
    "S": ("small", "sz S"),
    "XL": ("extra large", "x-large"),
    "XS": ("extra small", "x-small"),
    "XXL": ("2XL", "xx-large"),
    "cotton": ("100% cotton", "ctn"),
    "polyester": ("poly", "synthetic"),
    "linen": ("flax",),
    "wool": ("woollen", "merino"),
    "microfibre": ("microfiber", "micro fibre"),
    "leather": ("genuine leather", "lthr"),
    "silicone": ("silicon", "TPU"),
    "plastic": ("polypropylene", "PP", "ABS"),
    "stainless steel": ("inox", "s/steel", "steel"),
    "cast iron": ("iron", "gusseisen"),
    "aluminium": ("aluminum", "alu"),
    "ceramic": ("stoneware", "porcelain"),
    "glass": ("borosilicate", "crystal"),
    "wood": ("wooden", "solid wood", "timber"),
    "rattan": ("wicker", "polyrattan"),
    "metal": ("iron frame", "steel frame"),
    "fabric": ("textile", "plush"),
    "men": ("mens", "men's", "gents", "male"),
    "women": ("womens", "women's", "ladies", "wmns"),
    "kids": ("childrens", "junior", "boys girls"),
    "toddler": ("little ones", "age 2-4"),
    "baby": ("infant", "newborn"),
}

#: Unit -> how else it is written after the number.
UNITS: dict[str, tuple[str, ...]] = {
    "inch": ('"', "in", "-inch", " zoll"),
    "GB": ("GB", "gb", " gig"),
    "TB": ("TB", "tb"),
    "ml": ("ml", " mL", " millilitre"),
    "l": ("l", " litre", "L", "ltr"),
    "m": ("m", " metre", " mtr"),
    "cm": ("cm", " centimetre", ""),
    "kg": ("kg", " kilo", "KG"),
    "g": ("g", " gram"),
    "W": ("W", " watt", "w"),
    "V": ("V", " volt", "v"),
    "person": ("-person", " man", "p", " people"),
}

PACKS = ("pack of {}", "{} pack", "{}pcs", "set of {}", "x{}", "{} pieces", "{}er set")
_MEASURE = re.compile(r"([\d.]+(?:x[\d.]+)?) (\w+)")
_NEIGHBOURS = dict(zip("qwertyuiopasdfghjklzxcvbnm", "wertyuioplsdfghjklkxcvbnmn", strict=True))


def write(rng: random.Random, attribute: str, value: str, *, variant_share: float) -> str:
    """Write an attribute's value: as it stands, or with probability `variant_share` in another way."""
    if attribute == "quantity":
        return rng.choice(PACKS).format(value) if rng.random() < variant_share else f"{value} pack"
    if attribute == "size" and value.isdigit():
        return rng.choice((f"size {value}", f"EU {value}", f"sz{value}", value))
    if rng.random() >= variant_share:
        return value
    if measure := _MEASURE.fullmatch(value):
        number, unit = measure.groups()
        if "x" in number and rng.random() < 0.5:
            number = number.replace("x", " x ")
        return number + rng.choice(UNITS[unit])
    return rng.choice(VARIANTS.get(value, (value,)))


def forms(attribute: str, value: str) -> list[str]:
    """Return every way in which `write` may write an attribute's value."""
    if attribute == "quantity":
        return [pack.format(value) for pack in PACKS]
    if attribute == "size" and value.isdigit():
        return [f"size {value}", f"EU {value}", f"sz{value}", value]
    written = [value, *VARIANTS.get(value, ())]
    if measure := _MEASURE.fullmatch(value):
        number, unit = measure.groups()
        numbers = {number, number.replace("x", " x ")}
        written += [each + suffix for each in numbers for suffix in UNITS[unit]]
    return written


def misspell(rng: random.Random, text: str) -> str:
    """Put one slip into a word of at least four letters: a letter lost, doubled, swapped or hit beside.

    A text without such a word comes back unchanged.
    """
    parts = text.split(" ")
    long = [n for n, part in enumerate(parts) if len(part) >= 4 and part.isalpha()]
    if not long:
        return text
    n = rng.choice(long)
    word = parts[n]
    at = rng.randrange(1, len(word) - 1)
    slips = (
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        word[:at] + _NEIGHBOURS.get(word[at], word[at]) + word[at + 1 :],
    )
    parts[n] = rng.choice(slips)
    return " ".join(parts)
