"""Which offsets may be committed when records are finished in another order than they were read."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

P = TypeVar("P")


class OpenOffsets(Generic[P]):
    """Records read of each partition that are not committed yet. A partition is any hashable name.

    >>> offsets = OpenOffsets[str]()
    >>> offsets.take("p", 7), offsets.take("p", 8)
    (True, True)
    >>> offsets.done("p", 8)
    >>> offsets.to_commit()
    {}
    >>> offsets.done("p", 7)
    >>> offsets.to_commit()
    {'p': 9}
    """

    def __init__(self) -> None:
        self._read: dict[P, deque[int]] = {}
        self._done: dict[P, set[int]] = {}
        self._next: dict[P, int] = {}
        self._committed: dict[P, int] = {}

    def take(self, partition: P, offset: int) -> bool:
        """Note a record that was read; False if it, or a later one, was read before."""
        read = self._read.setdefault(partition, deque())
        if offset < self._next.get(partition, 0) or (read and offset <= read[-1]):
            return False
        read.append(offset)
        return True

    def done(self, partition: P, offset: int) -> None:
        """Note that a record is finished."""
        done = self._done.setdefault(partition, set())
        done.add(offset)
        read = self._read[partition]
        while read and read[0] in done:
            finished = read.popleft()
            done.remove(finished)
            self._next[partition] = finished + 1

    def to_commit(self) -> dict[P, int]:
        """Return the next offset of each partition that has moved since `committed`."""
        return {
            partition: offset
            for partition, offset in self._next.items()
            if self._committed.get(partition) != offset
        }

    def committed(self, offsets: dict[P, int]) -> None:
        """Note what was committed."""
        self._committed |= offsets

    def next_of(self, partition: P) -> int | None:
        """Return the offset up to which everything is finished, None before the first record is."""
        return self._next.get(partition)

    def __len__(self) -> int:
        """Return how many records are read and wait for their commit."""
        return sum(map(len, self._read.values()))
