"""From the chain of thought's evidence to the student's tokens.

A token is tagged if and only if its characters overlap an evidence span of its side. Spans of one verdict that
share a token make one run; a run's first token begins it (B), its others are inside (I). A token in both a match
and a mismatch says neither: it is left out of the tags. Everything that is left out is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from students.examples import Evidence
from students.tags import IGNORED, OF_VERDICT, OUTSIDE
from students.tokenisation import ITEM, QUERY, SPECIAL, Interval, Tokens

_SIDE = {"query": QUERY, "item": ITEM}


@dataclass(slots=True)
class Lost:
    """What of the evidence did not become tags: spans outside their text, spans that lost tokens to the limits
    (wholly or in part), spans that no token overlaps, tokens under both verdicts."""

    outside: int = 0
    cut: int = 0
    without_tokens: int = 0
    conflicts: int = 0

    def __add__(self, other: Lost) -> Lost:
        """Return the sums."""
        return Lost(
            outside=self.outside + other.outside,
            cut=self.cut + other.cut,
            without_tokens=self.without_tokens + other.without_tokens,
            conflicts=self.conflicts + other.conflicts,
        )


@dataclass(frozen=True, slots=True)
class Aligned:
    """For each of L tokens its tag (IGNORED for special ones and conflicts) and whether the chain used it."""

    tags: list[int]
    used: list[bool]
    lost: Lost = field(default_factory=Lost)


def align(
    tokens: Tokens, evidence: Sequence[Evidence], *, query: str | None, item_text: str | None
) -> Aligned:
    """Return tags of the tokens of a pair, or of one text alone, the other then being None: evidence of a text
    that is None is passed over. Pure; spans that are not in their text are counted, never an error."""
    texts = {QUERY: query, ITEM: item_text}
    lost = Lost()
    touched: dict[str, list[list[int]]] = {"match": [], "mismatch": []}
    for each in evidence:
        side = _SIDE[each.side]
        text = texts[side]
        if text is None:
            continue
        if not 0 <= each.begin < each.end <= len(text):
            lost.outside += 1
            continue
        span = (each.begin, each.end)
        places = [
            place
            for place, (whose, interval) in enumerate(zip(tokens.sides, tokens.offsets, strict=True))
            if whose == side and overlap(interval, span)
        ]
        cut = any(whose == side and overlap(interval, span) for whose, interval in tokens.cut)
        lost.cut += cut
        lost.without_tokens += not places and not cut
        if places:
            touched[each.verdict].append(places)
    tags = [IGNORED if side == SPECIAL else OUTSIDE for side in tokens.sides]
    used = [False] * len(tokens)
    under = {verdict: {place for places in spans for place in places} for verdict, spans in touched.items()}
    conflicts = under["match"] & under["mismatch"]
    lost.conflicts = len(conflicts)
    for verdict, spans in touched.items():
        begin, inside = OF_VERDICT[verdict]
        for run in _runs(spans):
            kept = [place for place in run if place not in conflicts]
            for number, place in enumerate(kept):
                tags[place] = inside if number else begin
    for place in under["match"] | under["mismatch"]:
        used[place] = True
    for place in conflicts:
        tags[place] = IGNORED
    return Aligned(tags, used, lost)


def overlap(one: Interval, other: Interval) -> bool:
    """Tell whether two half-open intervals share a character; an empty one shares none."""
    return max(one[0], other[0]) < min(one[1], other[1])


def _runs(spans: Iterable[list[int]]) -> list[list[int]]:
    """Return the places of spans, those that share a place as one, in rising order."""
    runs: list[set[int]] = []
    for places in spans:
        joined = set(places)
        apart = [run for run in runs if not run & joined]
        for run in runs:
            if run & joined:
                joined |= run
        runs = [*apart, joined]
    return [sorted(run) for run in runs]
