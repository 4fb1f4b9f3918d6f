"""The one text of an item that teacher and students read, and how strangers' text is cleaned for it.

The first line is the title, then one line each for brand, category and the attributes that are known. Evidence
spans and content hashes refer to this text, so teacher, students and serving must all make it here.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence

#: Attributes shown when nothing else is set, in this order.
ATTRIBUTES = (
    "series",
    "model",
    "type",
    "colour",
    "size",
    "material",
    "quantity",
    "audience",
    "compatibility",
)
MAX_QUERY_CHARS = 200
MAX_TITLE_CHARS = 240
MAX_VALUE_CHARS = 60
CATEGORY_LEVELS = 3
#: More marks than this on one letter are decoration that hides words.
MAX_MARKS = 2

_LOOKALIKES = str.maketrans(
    "аеіјкорсухѕһԁԛԝвмнтАВЕІЈКМНОРСТУХЅΑΒΕΖΗΙΚΜΝΟΡΤΥΧονικρ",
    "aeijkopcyxshdqwbmhtABEIJKMHOPCTYXSABEZHIKMNOPTYXovikp",
)
_LOOKALIKE_LETTERS = frozenset(map(chr, _LOOKALIKES))


def clean(text: str, *, max_chars: int) -> str:
    """Return a text on one line as a reader would see it, at most `max_chars` long.

    Compatibility forms become plain letters (NFKC), invisible and control characters go, runs of white space
    become one blank, letters of other scripts that look Latin inside Latin text become Latin. Lone surrogates
    and unassigned characters go too, so the result can always be encoded.

    >>> clean("ＮＥＷ  i\\u200bPh\\u043ene\\n15", max_chars=40)
    'NEW iPhone 15'
    """
    # Cut before the costly steps; NFKC can make one character eighteen.
    text = unicodedata.normalize("NFKC", text[: 4 * max_chars + 64])
    kept: list[str] = []
    marks = 0
    for char in text:
        kind = unicodedata.category(char)
        if kind in ("Cc", "Zs", "Zl", "Zp"):
            kept.append(" ")
            marks = 0
        elif kind[0] != "C":
            # Characters that go must not part a letter from the marks that pile up on it.
            marks = marks + 1 if kind == "Mn" else 0
            if marks <= MAX_MARKS:
                kept.append(char)
    # Cut before folding, so that cleaning what is clean changes nothing.
    words = unicodedata.normalize("NFC", " ".join("".join(kept).split()))[:max_chars].split()
    return unicodedata.normalize("NFC", " ".join(_fold(words)))


def _fold(words: Sequence[str]) -> list[str]:
    letters = [char for word in words for char in word if char.isalpha()]
    latin = sum(char < "\u0250" for char in letters)
    if not letters or latin == len(letters) or latin * 2 < len(letters):
        return list(words)
    return [
        word.translate(_LOOKALIKES)
        if all(char < "\u0250" or char in _LOOKALIKE_LETTERS or not char.isalpha() for char in word)
        else word
        for word in words
    ]


def query_text(query: str) -> str:
    """Return a query as teacher and students read it."""
    return clean(query, max_chars=MAX_QUERY_CHARS)


def item_text(
    *,
    title: str,
    brand: str = "",
    category: Sequence[str] = (),
    attributes: Mapping[str, str] | None = None,
    names: Sequence[str] = ATTRIBUTES,
) -> str:
    """Return the item's text: the title's line, then `name: value` lines; empty ones are left out.

    Of `category`, which runs from the department down, the last levels are shown; of `attributes` those in
    `names`, in that order.

    >>> print(item_text(title="Nova mug", brand="Nova", category=("Kitchen", "Mugs"), attributes={"size": "1 l"}))
    Nova mug
    brand: Nova
    category: Kitchen / Mugs
    size: 1 l
    """
    path = [clean(level, max_chars=MAX_VALUE_CHARS) for level in category[-CATEGORY_LEVELS:]]
    shown = {"brand": brand, "category": " / ".join(filter(None, path))}
    shown |= {name: (attributes or {}).get(name, "") for name in names}
    lines = [clean(title, max_chars=MAX_TITLE_CHARS)]
    for name, value in shown.items():
        limit = MAX_VALUE_CHARS * (CATEGORY_LEVELS if name == "category" else 1)
        if cleaned := clean(value, max_chars=limit):
            lines.append(f"{name}: {cleaned}")
    return "\n".join(lines)


def content_hash(text: str) -> str:
    """Return the hash that names this content of an item: 16 hexadecimal digits."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
