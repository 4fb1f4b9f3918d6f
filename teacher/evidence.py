"""Where the words that a teacher quotes stand in the text, as half-open intervals of characters.

Tried in this order, the first occurrence taken: whole words exactly, whole words whatever their case, whole words
with the prompt's look-alikes of brackets and bars taken back; then the same three inside of words ("kettle" in
"kettles"). A quotation never spans two lines.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from teacher.prompt import unfence


def fold(text: str) -> str:
    """Return text in lower case, every character at its place.

    >>> fold("İZMİR Straße")
    'İzmİr straße'
    """
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


def _same(text: str) -> str:
    return text


def _as_quoted(text: str) -> str:
    return fold(unfence(text))


_FORMS: tuple[Callable[[str], str], ...] = (_same, fold, _as_quoted)


def locate(words: str, text: str) -> tuple[int, int] | None:
    """Return the span of quoted words in a text, None if they do not stand there or there are none.

    Both are cleaned texts (`streams.item_text`); runs of white space in the words count as one blank.

    >>> locate("red  POT", "Bored Potter's red pot")
    (15, 22)
    """
    wanted = " ".join(words.split())
    if not wanted:
        return None
    for whole, form in product((True, False), _FORMS):
        start = _find(form(wanted), form(text), whole=whole)
        if start is not None:
            return start, start + len(wanted)
    return None


def _find(wanted: str, text: str, *, whole: bool) -> int | None:
    start = text.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        inside = (start > 0 and _joined(text[start - 1 : start + 1])) or _joined(text[end - 1 : end + 1])
        if not whole or not inside:
            return start
        start = text.find(wanted, start + 1)
    return None


def _joined(two: str) -> bool:
    return len(two) == 2 and all(char.isalnum() or char == "_" for char in two)
