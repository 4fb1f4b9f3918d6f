"""What was computed lately, so that queries and pairs that come again cost nothing."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """The `size` values used last, by key; size 0 keeps none.

    >>> recent = Recent[int](size=2)
    >>> for number, key in enumerate("aba"):
    ...     recent.put(key, number)
    >>> recent.put("c", 9)
    >>> recent.get("a"), recent.get("b"), recent.get("c")
    (2, None, 9)
    """

    def __init__(self, *, size: int) -> None:
        self._values: OrderedDict[object, Value] = OrderedDict()
        self._size = size

    def get(self, key: object) -> Value | None:
        """Return a value, or None if it is not kept."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: object, value: Value) -> None:
        """Keep a value, and let the one go that was used longest ago if there are too many."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._size:
            self._values.popitem(last=False)
