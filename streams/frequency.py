"""How frequent a query is, and whether that makes it head, torso or tail.

Apache DataSketches' frequent-items sketch counts hashes of normalised queries in bounded memory (at most
0.75 * 2**LG_MAX_ENTRIES of them, about 350 KB serialised); queries it had to forget are tail by definition.
Two generations, the current and the previous window, make it forget old fashions over one to two windows.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec
from datasketches import frequent_items_error_type, frequent_strings_sketch

from streams.records import TrafficClass

LG_MAX_ENTRIES = 14
#: Classes are cut anew after so many counted queries, and more often while the sketch is young.
CUT_EVERY = 500


class Snapshot(msgspec.Struct, array_like=True):
    """A `QueryFrequency` at rest."""

    started_s: float
    current: bytes
    previous: bytes


class QueryFrequency:
    """Counts queries and cuts them into head, torso and tail by share of traffic.

    `head_share` and `torso_share` in [0, 1] with a sum of at most 1; `window_s` > 0 in seconds.
    """

    def __init__(self, *, head_share: float, torso_share: float, window_s: float, now_s: float) -> None:
        self._head_share = head_share
        self._torso_share = torso_share
        self._window_s = window_s
        self._started_s = now_s
        self._current = frequent_strings_sketch(LG_MAX_ENTRIES)
        self._previous = frequent_strings_sketch(LG_MAX_ENTRIES)
        self._head_from = self._torso_from = 2
        self._until_cut = 1

    def count(self, query: str, *, now_s: float) -> TrafficClass:
        """Count one normalised query and return its class, itself included."""
        if now_s - self._started_s >= self._window_s:
            self._previous, self._current = self._current, frequent_strings_sketch(LG_MAX_ENTRIES)
            self._started_s = now_s
            self._until_cut = 1
        key = _key(query)
        self._current.update(key)
        self._until_cut -= 1
        if self._until_cut <= 0:
            self._cut()
            self._until_cut = min(CUT_EVERY, max(1, int(self.total() // 10)))
        return self._class_of(key)

    def classify(self, query: str) -> TrafficClass:
        """Return a normalised query's class without counting it."""
        return self._class_of(_key(query))

    def estimate(self, query: str) -> int:
        """Return the estimated count of a normalised query over the current and the previous window."""
        return self._estimate(_key(query))

    def total(self) -> int:
        """Return how many queries were counted over both windows."""
        return int(self._current.total_weight + self._previous.total_weight)

    def snapshot(self) -> bytes:
        """Serialise the counts."""
        return msgspec.msgpack.encode(
            Snapshot(self._started_s, bytes(self._current.serialize()), bytes(self._previous.serialize()))
        )

    def restore(self, snapshot: bytes) -> None:
        """Take over the counts of a snapshot. Raises ValueError if it is damaged."""
        try:
            stored = msgspec.msgpack.decode(snapshot, type=Snapshot)
            self._current = frequent_strings_sketch.deserialize(stored.current)
            self._previous = frequent_strings_sketch.deserialize(stored.previous)
        except (msgspec.DecodeError, RuntimeError, ValueError, IndexError) as error:
            raise ValueError(f"not a snapshot of query frequencies: {error}") from error
        self._started_s = stored.started_s
        self._until_cut = 1

    def _estimate(self, key: str) -> int:
        return int(self._current.get_estimate(key) + self._previous.get_estimate(key))

    def _class_of(self, key: str) -> TrafficClass:
        estimate = self._estimate(key)
        if estimate >= self._head_from:
            return TrafficClass.HEAD
        return TrafficClass.TORSO if estimate >= self._torso_from else TrafficClass.TAIL

    def _cut(self) -> None:
        kind = frequent_items_error_type.NO_FALSE_NEGATIVES
        counts: dict[str, int] = {}
        for sketch in (self._current, self._previous):
            for key, estimate, *_ in sketch.get_frequent_items(kind):
                counts[key] = counts.get(key, 0) + int(estimate)
        ordered = sorted(counts.values(), reverse=True)
        total = self.total()
        self._head_from = _threshold(ordered, self._head_share * total)
        self._torso_from = _threshold(ordered, (self._head_share + self._torso_share) * total)


def _threshold(ordered: list[int], target: float) -> int:
    """Return the count from which queries belong to the most frequent ones that make up `target` traffic.

    Queries of equal count stay together, on whichever side brings the share closer to the target. What was seen
    once is tail, however small the traffic.
    """
    taken = 0
    index = 0
    while index < len(ordered):
        count = ordered[index]
        end = index
        while end < len(ordered) and ordered[end] == count:
            end += 1
        group = count * (end - index)
        if count == 1 or (taken + group > target and taken + group - target >= target - taken):
            return count + 1
        taken += group
        if taken >= target:
            return count
        index = end
    return 2


def _key(query: str) -> str:
    return blake2b(query.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
