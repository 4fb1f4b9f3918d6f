"""Notices events that were skipped on the way to the worker, so that they can be asked for again.

Faust's bookkeeping of commits lets one event at the head of a partition go missing without holding the commit back
(its check for gaps is off by one), and around restarts one in tens of thousands did. So the worker remembers, with
its state, the next offset of each partition; an event beyond it makes the worker seek back once. Gaps that stay
after that are the broker's own (transaction markers, retention) and are accepted.
"""

from __future__ import annotations

from collections.abc import Iterable


class Continuity:
    """The next offset expected of each (topic, partition)."""

    def __init__(self) -> None:
        self._next: dict[tuple[str, int], int] = {}
        self._asked: set[tuple[str, int, int]] = set()

    def expect(self, stored: Iterable[tuple[str, int, int]]) -> None:
        """Start from stored (topic, partition, next offset) and forget everything else."""
        self._next = {(topic, partition): offset for topic, partition, offset in stored}
        self._asked.clear()

    def next_of(self, topic: str, partition: int) -> int | None:
        """Return the next offset expected, or None if any will do."""
        return self._next.get((topic, partition))

    def missing_before(self, topic: str, partition: int, offset: int) -> int | None:
        """Return the offset to seek back to if events before `offset` were skipped, else None and go on.

        The same gap is reported once only.
        """
        expected = self._next.get((topic, partition))
        if expected is not None and offset > expected and (topic, partition, expected) not in self._asked:
            self._asked.add((topic, partition, expected))
            return expected
        if expected is None or offset >= expected:
            self._next[topic, partition] = offset + 1
        return None
