"""Chains of thought for judged pairs of a real catalogue, written by a program from the words of both texts.

Less is known here than of the generated shop: which brands and colours there are is learned from the catalogue,
measures are read by their units, and what is left of the query is taken for the kind of product. Verdicts say
whether the words agree. They never follow the grade that people gave: a verdict that guesses it leaves the grade's
probabilities nothing to weigh.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

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
        if asked := _kind(left):
            note("category", asked, *_category(asked, text, item))
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


def _category(asked: str, text: str, item: Item) -> tuple[str, bool]:
    """Return the item's words for its kind of product, and whether they say at least half of what was asked for."""
    parts = asked.split()
    for length in range(len(parts), 0, -1):
        for first in range(len(parts) - length, -1, -1):
            run = parts[first : first + length]
            if run[0].lower() in _FILLER or run[-1].lower() in _FILLER:
                continue
            if said := find(text, " ".join(run)) or find(text, " ".join(run).rstrip("s")):
                if 2 * length >= len(parts):
                    return said, True
                return _leaf(text, item) or said, False
    return _leaf(text, item) or " ".join(text.partition("\n")[0].split()[:4]), False


def _leaf(text: str, item: Item) -> str:
    return find(text, item.category[-1]) if item.category else ""


def _other(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match.group() if match else ""


def _kind(left: str) -> str:
    """Return the longest run of the query's remaining words, fillers at its ends cut off; the last of equals."""
    best: Sequence[str] = ()
    for run in left.split("|"):
        parts = run.split()
        while parts and parts[0].lower() in _FILLER:
            parts = parts[1:]
        while parts and parts[-1].lower() in _FILLER:
            parts = parts[:-1]
        if len(parts) >= max(1, len(best)):
            best = parts
    return " ".join(best)
