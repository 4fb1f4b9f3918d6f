"""Finding a known value's words in a text, however a seller or shopper wrote them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORD = re.compile(r"[^\s,;|/()\"]+")
#: Shorter words with a slip in them are other words.
MIN_SLIP_LETTERS = 4


def find_words(text: str, forms: Iterable[str]) -> str:
    """Return the words of `text` that are one of `forms`, as they stand there; empty if none does.

    Upper and lower case are the same; longer forms are tried first; where no form stands in the text, one slip
    of the finger in one longer word is forgiven.

    >>> find_words("Noir, s/steel fryng pan", ["frying pan", "skillet"])
    'fryng pan'
    """
    tried = sorted({form for form in forms if form}, key=len, reverse=True)
    for form in tried:
        if match := re.search(rf"(?<!\w){re.escape(form)}(?!\w)", text, re.IGNORECASE):
            return match.group()
    words = list(_WORD.finditer(text))
    for form in tried:
        wanted = form.lower().split()
        for first in range(len(words) - len(wanted) + 1):
            window = words[first : first + len(wanted)]
            found = [word.group().lower() for word in window]
            others = [(a, b) for a, b in zip(wanted, found, strict=True) if a != b]
            if len(others) == 1 and len(others[0][0]) >= MIN_SLIP_LETTERS and one_slip(*others[0]):
                return text[window[0].start() : window[-1].end()]
    return ""


def find_in_item(text: str, forms: Iterable[str]) -> str:
    """Return words of an item's text as `find_words` does, from its named fields if they hold any, else its title.

    A title is where sellers write what they like; the fields say the same in fewer words.

    >>> find_in_item("Kettle, like a teapot\\ncategory: Kitchen / Kettle", ["teapot", "kettle"])
    'Kettle'
    """
    title, _, fields = text.partition("\n")
    forms = list(forms)
    return find_words(fields, forms) or find_words(title, forms)


def one_slip(word: str, other: str) -> bool:
    """Tell whether one letter lost, doubled, swapped or mistaken makes one word of the other.

    >>> one_slip("kettle", "ketlte"), one_slip("kettle", "kettles"), one_slip("kettle", "bottle")
    (True, True, False)
    """
    if abs(len(word) - len(other)) > 1:
        return False
    short, long = sorted((word, other), key=len)
    at = next((n for n, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    if len(short) < len(long):
        return short[at:] == long[at + 1 :]
    swapped = short[:at] + short[at : at + 2][::-1] + short[at + 2 :]
    return short[at + 1 :] == long[at + 1 :] or swapped == long
