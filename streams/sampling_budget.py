"""What sampling may spend: teacher tokens per hour, and what a judgement is likely to cost."""

from __future__ import annotations

from typing import Final

import msgspec

HOUR_MS: Final = 3_600_000
#: How much one judgement moves the estimate: about the last forty count.
FOLLOWS: Final = 0.05


class TokenBucket(msgspec.Struct):
    """Tokens that may be spent now. In any hour whatever no more than `per_hour` are.

    The bucket holds `burst` and fills by the rest over an hour, so the fullest hour is burst + (per_hour - burst).
    Tokens not spent beyond `burst` are lost. `at_ms` is when it was last filled.
    """

    per_hour: float
    burst: float
    tokens: float
    at_ms: int

    def fill(self, now_ms: int) -> None:
        """Add what has come in since the last time; a clock that steps back adds nothing."""
        passed_ms = max(0, now_ms - self.at_ms)
        self.at_ms = max(self.at_ms, now_ms)
        self.tokens = min(self.burst, self.tokens + (self.per_hour - self.burst) * passed_ms / HOUR_MS)

    def spend(self, cost: float) -> bool:
        """Take `cost` tokens and return True, or False and take none."""
        if cost > self.tokens:
            return False
        self.tokens -= cost
        return True


def bucket(per_hour: float, *, burst_share: float, first_cost: float, now_ms: int) -> TokenBucket:
    """Return a full bucket that holds a share of an hour's tokens, or two judgements if that is more.

    Raises ValueError if an hour does not hold four judgements: then it could never be both full enough and within
    the hour's tokens.
    """
    if per_hour < 4 * first_cost:
        raise ValueError(
            f"expected tokens an hour for at least four judgements of {first_cost:g} tokens, got {per_hour:g}"
        )
    burst = max(per_hour * burst_share, 2 * first_cost)
    return TokenBucket(per_hour, burst, burst, now_ms)


class JudgementCost(msgspec.Struct):
    """The tokens that a judgement is likely to take, prompt and answer: a moving mean of those seen."""

    tokens: float

    def learn(self, tokens: int) -> None:
        """Take a judgement's tokens in."""
        self.tokens += FOLLOWS * (tokens - self.tokens)
