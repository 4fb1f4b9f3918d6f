"""What makes a pair worth the teacher's time: four terms and their product, the priority. Pure functions.

priority = tail x uncertainty x contradiction x novelty, each in (0, 1]. Uncertainty and contradiction are lifted off
zero by a floor f (f + (1 - f) * term), for a product forgets everything beside a zero: a student that is sure and
wrong is uncertain nowhere, and behaviour of which little is known contradicts nothing. The formulas are this
project's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

from streams.item_text import query_text
from streams.records import EngagementWindow, ItemEngagement, TrafficClass

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How the terms bend. `tail_exponent` >= 0; `coec_prior` > 0 in expected clicks; `floor` in [0, 1]."""

    tail_exponent: float
    coec_prior: float
    floor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A pair that was shown, with the terms that its engagement gives; `query` is cleaned, `seen_ms` epoch
    milliseconds, `traffic_class` the query's."""

    query: str
    item_id: str
    tail: float
    uncertainty: float
    contradiction: float
    seen_ms: int
    traffic_class: str = TrafficClass.UNKNOWN.value

    @property
    def pair(self) -> Pair:
        """Return (query, item id)."""
        return self.query, self.item_id

    def priority(self, asked: int) -> float:
        """Return the priority in (0, 1] if so many pairs of the query have been asked."""
        return self.tail * self.uncertainty * self.contradiction * novelty(asked)

    def reasons(self, asked: int, *, uniform: bool) -> dict[str, float]:
        """Return each term, the priority, and whether the pair was drawn by lot."""
        return {
            "tail": self.tail,
            "uncertainty": self.uncertainty,
            "contradiction": self.contradiction,
            "novelty": novelty(asked),
            "priority": self.priority(asked),
            "uniform": float(uniform),
        }


def tail_weight(searches: int, *, exponent: float) -> float:
    """Return max(1, searches) ** -exponent in (0, 1]: the rarer the query, the more.

    `searches` is the estimate of the streaming sketch. 0.5 sends, of equally doubtful pairs, a query searched four
    times as often to half the place in line; 0 leaves rarity out.

    >>> tail_weight(1, exponent=0.5), tail_weight(100, exponent=0.5)
    (1.0, 0.1)
    """
    return float(max(1, searches) ** -exponent)


def uncertainty(score: float | None) -> float:
    """Return the entropy in bits of a relevance score in [0, 1] read as a probability; 1 without a score.

    It is greatest at the decision, 0.5, and falls to both sides alike. The score is the mean over the impressions:
    where two versions of the student disagree it lies between them, so their disagreement counts too.

    >>> uncertainty(0.5), uncertainty(None), uncertainty(1.0)
    (1.0, 1.0, 0.0)
    """
    if score is None:
        return 1.0
    return sum(-share * math.log2(share) for share in (score, 1 - score) if share > 0)


def contradiction(score: float | None, *, clicks: int, expected_clicks: float, prior: float) -> float:
    """Return how far behaviour lies from the score, in [0, 1]; 0 without a score or without impressions.

    COEC is shrunk to what the score foretells, 2 * score (1 for a score of 0.5), as if `prior` expected clicks had
    confirmed it: coec = (clicks + 2 * prior * score) / (expected_clicks + prior). Half of it, at most 1, is what
    behaviour says of relevance; the term is its distance from the score.

    >>> round(contradiction(0.9, clicks=0, expected_clicks=2.0, prior=1.0), 3)
    0.6
    """
    if score is None:
        return 0.0
    coec = (clicks + 2 * prior * score) / (expected_clicks + prior)
    return abs(min(1.0, coec / 2) - score)


def novelty(asked: int) -> float:
    """Return (1 + asked) ** -0.5 in (0, 1]; `asked` counts the pairs of the query that the teacher was sent.

    >>> novelty(0), novelty(3)
    (1.0, 0.5)
    """
    return float((1 + asked) ** -0.5)


def candidates(window: EngagementWindow, shape: Shape) -> Iterator[Candidate]:
    """Yield the pairs that a window shows; none for a query that cannot be read."""
    query = query_text(window.query)
    if not query:
        return
    tail = tail_weight(window.searches, exponent=shape.tail_exponent)
    for item in window.items:
        if item.impressions <= 0:
            continue
        score = _score(item)
        contradicts = contradiction(
            score, clicks=item.clicks, expected_clicks=item.expected_clicks, prior=shape.coec_prior
        )
        yield Candidate(
            query=query,
            item_id=item.item_id,
            tail=tail,
            uncertainty=_lifted(uncertainty(score), shape.floor),
            contradiction=_lifted(contradicts, shape.floor),
            seen_ms=window.updated_ms,
            traffic_class=window.traffic_class,
        )


def lot(pair: Pair, *, seed: int) -> float:
    """Return a number in [0, 1) that the pair draws once and for all, whatever else is known of it."""
    named = f"{seed}\0{pair[0]}\0{pair[1]}".encode("utf-8", "surrogatepass")
    # 53 bits are what a double holds: a draw never rounds up to 1.
    return (int.from_bytes(blake2b(named, digest_size=8).digest()) >> 11) / (1 << 53)


def _score(item: ItemEngagement) -> float | None:
    return min(1.0, max(0.0, item.score_sum / item.scored)) if item.scored > 0 else None


def _lifted(term: float, floor: float) -> float:
    return floor + (1 - floor) * term
