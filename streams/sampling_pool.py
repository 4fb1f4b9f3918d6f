"""Candidates in the order in which they are to be asked, in bounded memory: about 0.6 KB a pair."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from streams.sampling import Candidate, Pair

#: When there are too many pairs, the worst go, down to this share.
KEPT_SHARE = 0.9
Entry = tuple[float, float, Pair]


class RankedPairs:
    """The latest candidate of each pair, lowest rank first; of equal ranks the lower `tie`, then the pair itself.

    Holds at most `max_pairs`; what is let go for room counts in `let_go`.
    """

    def __init__(self, max_pairs: int) -> None:
        self._max_pairs = max_pairs
        self._held: dict[Pair, tuple[Entry, Candidate]] = {}
        self._heap: list[Entry] = []
        self.let_go = 0

    def add(self, candidate: Candidate, *, rank: float, tie: float) -> None:
        """Take a candidate in, in the place of an earlier one of the same pair."""
        pair = candidate.pair
        entry = (rank, tie, pair)
        known = self._held.get(pair)
        self._held[pair] = (entry, candidate)
        if known is None or known[0] != entry:
            heapq.heappush(self._heap, entry)
        if len(self._held) > self._max_pairs:
            self._keep(int(self._max_pairs * KEPT_SHARE))
        elif len(self._heap) > 2 * len(self._held) + 1024:
            self._keep(len(self._held))

    def pop(self, rank_of: Callable[[Candidate], float]) -> Candidate | None:
        """Remove and return the first candidate, None if there is none.

        `rank_of` gives the rank as it is now, which may be worse than when the candidate was added, never better.
        """
        while self._heap:
            entry = heapq.heappop(self._heap)
            rank, tie, pair = entry
            known = self._held.get(pair)
            if known is None or known[0] != entry:
                continue
            now = rank_of(known[1])
            if now > rank:
                entry = (now, tie, pair)
                self._held[pair] = (entry, known[1])
                heapq.heappush(self._heap, entry)
                continue
            del self._held[pair]
            return known[1]
        return None

    def discard(self, pair: Pair) -> None:
        """Forget a pair, if it is here."""
        self._held.pop(pair, None)

    def __len__(self) -> int:
        """Return how many pairs are held."""
        return len(self._held)

    def _keep(self, pairs: int) -> None:
        best = heapq.nsmallest(pairs, (entry for entry, _ in self._held.values()))
        self.let_go += len(self._held) - len(best)
        self._held = {entry[2]: self._held[entry[2]] for entry in best}
        self._heap = best
