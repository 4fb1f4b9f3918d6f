"""From a tag for each token to the words that matched or clashed, as intervals of characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from students.tokenisation import ITEM, QUERY, Tokens

SIDES = {QUERY: "query", ITEM: "item"}


class Span(TypedDict):
    """Words of one side: half-open interval of characters in the cleaned text, verdict `match` or `mismatch`, and the
    mean probability of the tags that say so."""

    side: str
    start: int
    end: int
    verdict: str
    probability: float


def spans_of(tokens: Tokens, probabilities: npt.NDArray[np.float32], tags: Sequence[str]) -> list[Span]:
    """Return the spans of an input of L tokens, in its order, of tag probabilities [L, T] under BIO `tags`.

    A token that continues a verdict (`I-`) without a beginning starts one: what the tags mean is clear.
    """
    found: list[Span] = []
    previous: tuple[int, str] | None = None
    scores: list[float] = []
    for place, (side, (start, end)) in enumerate(zip(tokens.sides, tokens.offsets, strict=True)):
        best = int(probabilities[place].argmax())
        prefix, _, verdict = tags[best].partition("-")
        if side not in SIDES or not verdict:
            previous = None
            continue
        probability = float(probabilities[place, best])
        if previous == (side, verdict) and prefix == "I":
            scores.append(probability)
            found[-1]["end"] = end
        else:
            scores = [probability]
            found.append(Span(side=SIDES[side], start=start, end=end, verdict=verdict, probability=0.0))
        found[-1]["probability"] = round(sum(scores) / len(scores), 4)
        previous = (side, verdict)
    return found
