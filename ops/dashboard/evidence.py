"""A text cut where evidence begins and ends, so that a page can highlight it without knowing of offsets.

Offsets count characters as Python does; a browser counts UTF-16 units, so the cutting is done here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec

Span = tuple[int, int]


class Piece(msgspec.Struct, frozen=True):
    """A stretch of text. `inside` are the numbers of the spans that cover it, `ends` of those that end with it."""

    text: str
    inside: list[int]
    ends: list[int]


def clip(span: Span | None, length: int) -> Span | None:
    """Return the part of a span that lies in a text of `length` characters, None if no character does.

    >>> clip((-3, 4), 10), clip((8, 99), 10), clip((4, 4), 10), clip((12, 20), 10)
    ((0, 4), (8, 10), None, None)
    """
    if span is None:
        return None
    start, end = max(span[0], 0), min(span[1], length)
    return (start, end) if start < end else None


def pieces(text: str, spans: Sequence[Span | None]) -> list[Piece]:
    """Cut a text at the ends of its half-open spans, which may overlap; their numbers count from 0.

    The pieces joined are the text. Spans are clipped to it; what lies outside marks nothing.

    >>> [(piece.text, piece.inside) for piece in pieces("red mug", [(0, 3), None, (2, 99)])]
    [('re', [0]), ('d', [0, 2]), (' mug', [2])]
    """
    within = [(number, clipped) for number, span in enumerate(spans) if (clipped := clip(span, len(text)))]
    cuts = sorted({0, len(text), *(offset for _, span in within for offset in span)})
    return [
        Piece(
            text[start:end],
            [number for number, span in within if span[0] <= start and end <= span[1]],
            [number for number, span in within if span[1] == end],
        )
        for start, end in itertools.pairwise(cuts)
    ]
