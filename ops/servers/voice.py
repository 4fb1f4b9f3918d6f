"""Where a server's keeper says what it does: lines for people, on a terminal or in a log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Voice:
    """Where progress goes: `say` takes a finished line, `waiting` one that the next replaces."""

    say: Callable[[str], None]
    waiting: Callable[[str], None]
