"""How an annotation is getting on: answers of how many, rate, tokens, cost, time left. The clock is passed in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from teacher.annotation.accounting import Prices
from teacher.annotation.ledger import Spent
from teacher.judging import Result


class Progress:
    """Counts answers as they come. Tokens and cost are those of the whole ledger, the rate is this run's."""

    def __init__(
        self,
        *,
        to_ask: Mapping[str, int],
        spent: Mapping[str, Spent],
        prices: Mapping[str, Prices],
        now_s: float,
    ) -> None:
        self._to_ask = dict(to_ask)
        self._answered = dict.fromkeys(to_ask, 0)
        self._before = sum(each.answers for each in spent.values())
        self._tokens = sum(each.prompt_tokens + each.completion_tokens for each in spent.values())
        self._prices = prices
        self._began_s = now_s
        self.cost_usd = sum(
            prices[name].cost_usd(prompt_tokens=each.prompt_tokens, completion_tokens=each.completion_tokens)
            for name, each in spent.items()
            if name in prices
        )

    @property
    def done(self) -> int:
        """Return how many answers the ledger holds."""
        return self._before + self.answered

    @property
    def answered(self) -> int:
        """Return how many answers came in this run."""
        return sum(self._answered.values())

    @property
    def total(self) -> int:
        """Return how many answers there will be."""
        return self._before + sum(self._to_ask.values())

    def add(self, annotator: str, result: Result) -> None:
        """Count an answer."""
        self._answered[annotator] += 1
        self._tokens += result.prompt_tokens + result.completion_tokens
        self.cost_usd += self._prices[annotator].cost_usd(
            prompt_tokens=result.prompt_tokens, completion_tokens=result.completion_tokens
        )

    def left_s(self, now_s: float) -> float | None:
        """Return the seconds until the slowest annotator is through, None before it has answered anything."""
        elapsed_s = now_s - self._began_s
        waits = [0.0]
        for name, count in self._to_ask.items():
            if left := count - self._answered[name]:
                if not self._answered[name]:
                    return None
                waits.append(left * elapsed_s / self._answered[name])
        return max(waits)

    def told(self, now_s: float) -> str:
        """Return one line for people."""
        rate = self.answered / max(now_s - self._began_s, 1e-3)
        left_s = self.left_s(now_s)
        left = "unknown" if left_s is None else str(timedelta(seconds=round(left_s)))
        return (
            f"{self.done:,}/{self.total:,} answers, {rate:.1f}/s, {self._tokens:,} tokens, "
            f"${self.cost_usd:,.2f}, {left} left"
        )
