"""What a worker has done, for its heartbeat."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from streams.records import Judgement
from teacher.parsing import Refusal

RATE_OVER_S: Final = 60.0


@dataclass(slots=True)
class Progress:
    """Counts since the start. `published` judgements are those on the topic, `known` of the answers came out of the
    cache, `expired` pairs were past their deadline. `waiting` pairs are read and not asked yet, `open` ones asked;
    `lag` counts the records of the worker's partitions that are not finished, None while unknown.

    `waits_for` says why the teacher is waited for, `trouble` what else is wrong, both for people.
    """

    records: int = 0
    published: int = 0
    known: int = 0
    expired: int = 0
    dead_letters: int = 0
    retries: int = 0
    away: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    waiting: int = 0
    open: int = 0
    lag: int | None = None
    refused: Counter[str] = field(default_factory=Counter)
    waits_for: str = ""
    trouble: str = ""
    _answered_s: deque[float] = field(default_factory=deque)

    def asked(self, result: Judgement | Refusal, *, known: bool) -> None:
        """Count an answer; `known` ones cost nothing now."""
        if known:
            self.known += 1
            return
        self.prompt_tokens += result.prompt_tokens
        self.cached_tokens += result.cached_tokens
        self.completion_tokens += result.completion_tokens
        if isinstance(result, Refusal):
            self.refused[result.reason] += 1
        else:
            self._answered_s.append(time.monotonic())

    def judged_per_s(self) -> float:
        """Return the judgements a second over the last minute."""
        while self._answered_s and self._answered_s[0] < time.monotonic() - RATE_OVER_S:
            self._answered_s.popleft()
        return len(self._answered_s) / RATE_OVER_S

    def counters(self) -> dict[str, float]:
        """Return the numbers by name; `lag` only where it is known, `refused_REASON` for each reason seen."""
        unnamed = ("lag", "refused", "waits_for", "trouble", "_answered_s")
        plain = {name: float(getattr(self, name)) for name in self.__slots__ if name not in unnamed}
        lag = {} if self.lag is None else {"lag": float(self.lag)}
        refused = {f"refused_{reason}": float(count) for reason, count in sorted(self.refused.items())}
        return plain | {"judged_per_s": self.judged_per_s()} | lag | refused
