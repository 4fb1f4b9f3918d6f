"""Chains of thought for judged pairs of a real catalogue, written by a program from the words of both texts.

Less is known here than of the generated shop: which brands there are is learned from the catalogue, colours,
materials and audiences are listed, measures are read by their units. Verdicts say whether the words agree. Whether
the item is the kind of product that was asked for, no program can read off the words: there is no line for it, and
the grade's probabilities have it to weigh. A verdict that guesses it, or follows people's grade, leaves them nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ops.shop.items import Item, words
from teacher.examples import ChainLine
from teacher.policy import Verdict

_MEASURE = re.compile(
    r"\b\d+(?:[.,/x]\d+)*\s?(?:inch(?:es)?|in|\"|cm|mm|m|ft|feet|gb|tb|mb|ml|l|oz|lb|lbs|kg|g|w|v|watt|volt|mah"
    r"|hz|mp|k|ah|quart|gallon)(?!\w)",
    re.IGNORECASE,
)
_PIECES = re.compile(
    r"\b(?:pack of \d+|set of \d+|\d+[ -]?(?:pack|pk|pcs|pieces|count|ct|pairs?))\b", re.IGNORECASE
)
_AUDIENCE = {
    "men": "men", "mens": "men", "men's": "men", "man": "men", "male": "men", "boys": "boys", "boy": "boys",
    "women": "women", "womens": "women", "women's": "women", "woman": "women", "ladies": "women",
    "female": "women", "girls": "girls", "girl": "girls", "kids": "kids", "kid": "kids", "children": "kids",
    "toddler": "toddler", "toddlers": "toddler", "baby": "baby", "infant": "baby",
}  # fmt: skip
_COLOURS = frozenset(
    [
        "black",
        "white",
        "grey",
        "gray",
        "blue",
        "navy",
        "red",
        "green",
        "beige",
        "pink",
        "yellow",
        "purple",
        "orange",
        "turquoise",
        "teal",
        "silver",
        "gold",
        "brown",
        "ivory",
        "cream",
        "tan",
        "burgundy",
        "maroon",
        "khaki",
        "clear",
        "multicolor",
        "rose",
        "charcoal",
        "coral",
        "lavender",
    ]
)
_MATERIALS = frozenset(
    [
        "leather",
        "cotton",
        "wool",
        "silk",
        "linen",
        "denim",
        "wood",
        "wooden",
        "bamboo",
        "steel",
        "metal",
        "aluminum",
        "aluminium",
        "plastic",
        "glass",
        "ceramic",
        "silicone",
        "rubber",
        "paper",
        "cardboard",
        "velvet",
        "nylon",
        "polyester",
        "canvas",
        "brass",
        "copper",
        "iron",
        "marble",
        "granite",
        "suede",
    ]
)
_FILLER = frozenset(
    [
        "a",
        "an",
        "and",
        "the",
        "for",
        "with",
        "of",
        "in",
        "on",
        "to",
        "from",
        "by",
        "without",
        "not",
        "no",
        "best",
        "cheap",
        "new",
        "big",
        "small",
        "under",
    ]
)
#: A model is named by letters and digits together, or by a longer number.
_MODEL = re.compile(
    r"\b(?=[a-z0-9-]*\d)(?=[a-z0-9-]*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*\b|\b\d{3,6}\b", re.IGNORECASE
)
MIN_BRAND_LETTERS = 3


class ChainWriter:
    """Writes chains for pairs of one catalogue."""

    def __init__(self, items: Iterable[Item]) -> None:
        """Learn the catalogue's brands."""
        brands = {item.brand.lower() for item in items}
        ordinary = _COLOURS | _MATERIALS | _FILLER | _AUDIENCE.keys()
        self._brands = {
            brand for brand in brands if len(brand) >= MIN_BRAND_LETTERS and brand not in ordinary
        }

    def chain(self, query: str, text: str, item: Item) -> tuple[ChainLine, ...]:
        """Return the lines for a judged pair; `query` and `text` are the cleaned texts."""
        left = query
        lines: dict[str, ChainLine] = {}

        def note(subtask: str, asked: str, told: str, met: bool) -> None:
            nonlocal left
            verdict = Verdict.UNSTATED if not told else Verdict.MATCH if met else Verdict.MISMATCH
            lines[subtask] = ChainLine(subtask=subtask, query_words=asked, item_words=told, verdict=verdict)
            left = left.replace(asked, "|", 1)

        if asked := self._brand(query):
            same = find(text, asked)
            note("brand", asked, same or find(text, item.brand), bool(same))
        for subtask, pattern in (("quantity", _PIECES), ("size", _MEASURE), ("model", _MODEL)):
            if match := pattern.search(left):
                told = find(text, match.group())
                note(subtask, match.group(), told or _other(pattern, text), bool(told))
        for subtask, known in (("colour", _COLOURS), ("material", _MATERIALS)):
            if asked := next((word for word in re.findall(r"[\w']+", left) if word.lower() in known), ""):
                told = find(text, asked)
                named = (find(text, word) for word in words(text) if word in known)
                note(subtask, asked, told or next(named, ""), bool(told))
        if asked := next((word for word in re.findall(r"[\w']+", left) if word.lower() in _AUDIENCE), ""):
            others = [word for word in re.findall(r"[\w']+", text) if word.lower() in _AUDIENCE]
            met = [word for word in others if _AUDIENCE[word.lower()] == _AUDIENCE[asked.lower()]]
            note("audience", asked, next(iter(met or others), ""), bool(met))
        return tuple(sorted(lines.values(), key=lambda line: query.index(line.query_words)))

    def _brand(self, query: str) -> str:
        parts = query.split()
        for length in (3, 2, 1):
            for first in range(len(parts) - length + 1):
                phrase = " ".join(parts[first : first + length])
                if phrase.lower() in self._brands:
                    return phrase
        return ""


def find(text: str, asked: str) -> str:
    """Return `asked` as it stands in the fields of `text` or else its title, a plural s and case apart; or empty."""
    if not asked:
        return ""
    wanted = re.compile(rf"(?<!\w){re.escape(asked)}s?(?!\w)", re.IGNORECASE)
    title, _, fields = text.partition("\n")
    match = wanted.search(fields) or wanted.search(title)
    return match.group() if match else ""


def _other(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match.group() if match else ""
