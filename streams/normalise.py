"""The form of a query in which frequency and engagement are counted."""

from __future__ import annotations

import unicodedata


def normalise_query(text: str) -> str:
    """Fold width, case and white space; word order and spelling stay as typed.

    >>> normalise_query("  Red\\u3000SHOES ")
    'red shoes'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
