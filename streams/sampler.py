"""The sampler: from what shoppers were shown to the pairs that the teacher is sent. No Kafka here, and no clock.

Two shares of one budget. The larger one goes down the line by priority (`streams.sampling`), at most so many pairs of
a query an hour. The uniform one is for monitoring: each pair draws a lot once and for all, a share of the pairs is
set aside by it and asked in the order of the lots, so that neither priority nor traffic has a say in which they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ops.settings import Sampling
from streams.item_text import content_hash, item_text
from streams.records import CatalogueItem, EngagementWindow, Judgement, Pair
from streams.sampling import Candidate, Shape, candidates, lot
from streams.sampling_budget import HOUR_MS, JudgementCost, TokenBucket, bucket
from streams.sampling_memory import Drawn, Ledger, SamplingMemory, Text, teacher_key
from streams.sampling_pool import RankedPairs

#: Candidates looked at in one go at most: what can't be asked is passed over.
MOST_LOOKED_AT = 2000


@dataclass(slots=True)
class _Share:
    """One share of the budget and the candidates that it is for."""

    name: str
    ranked: RankedPairs
    tokens: TokenBucket


class Sampler:
    """Holds the candidates; everything else lies in `memory`. Not for use by several threads."""

    def __init__(self, settings: Sampling, memory: SamplingMemory, *, now_ms: int) -> None:
        """Go on where `memory` is. A budget of other settings than before starts anew, but not with more tokens than
        were left. Raises OSError if the memory can't be used."""
        self._settings = settings
        self._memory = memory
        self._shape = Shape(
            tail_exponent=settings.tail_exponent, coec_prior=settings.coec_prior, floor=settings.floor
        )
        self.counters: Counter[str] = Counter()
        ledger = memory.ledger()
        self.teacher, self._teacher_ms = ledger.teacher, ledger.teacher_ms
        self.cost = JudgementCost(ledger.judgement_tokens or settings.tokens_per_judgement)
        uniform = settings.uniform_share
        self._shares = [
            self._share("best", 1 - uniform, ledger.best, now_ms),
            *([self._share("uniform", uniform, ledger.uniform, now_ms)] if uniform else []),
        ]
        #: Pairs asked of a query that has candidates.
        self._asked: dict[str, int] = {}
        #: Why nothing more was drawn the last time, for people.
        self.waits_for = ""

    def _share(self, name: str, share: float, stored: TokenBucket | None, now_ms: int) -> _Share:
        settings = self._settings
        tokens = bucket(
            settings.tokens_per_hour * share,
            burst_share=settings.burst_share,
            first_cost=settings.tokens_per_judgement,
            now_ms=now_ms,
        )
        if stored is not None:
            same = (stored.per_hour, stored.burst) == (tokens.per_hour, tokens.burst)
            tokens.tokens = min(tokens.burst, stored.tokens)
            tokens.at_ms = stored.at_ms if same else now_ms
        pairs = max(1000, int(settings.max_candidates * share))
        return _Share(name, RankedPairs(pairs), tokens)

    def __len__(self) -> int:
        """Return how many candidates are held."""
        return sum(len(share.ranked) for share in self._shares)

    def offer(self, item: CatalogueItem) -> None:
        """Take an item's text in."""
        text = item_text(
            title=item.title, brand=item.brand, category=item.category, attributes=item.attributes
        )
        self._memory.offer(item.item_id, Text(text, content_hash(text)), updated_ms=item.updated_ms)

    def take_out(self, item_id: str, *, removed_ms: int) -> None:
        """Note that the shop offers an item no more."""
        self._memory.offer(item_id, Text("", ""), updated_ms=removed_ms)

    def was_asked(self, pair: Pair) -> None:
        """Note a pair that is on its way to the teacher, whoever sent it."""
        asked = (pair.query, pair.item_id, pair.content_hash, pair.sampled_ms)
        self._memory.remember([asked], teacher=self.teacher)

    def was_judged(self, judgement: Judgement) -> None:
        """Learn from a judgement what the next may cost and which teacher judges now. Under another teacher or prompt
        every pair may be asked once more."""
        self.cost.learn(judgement.prompt_tokens + judgement.completion_tokens)
        teacher = teacher_key(judgement.teacher_id, judgement.prompt_hash)
        # Partitions are read one after the other, so an older teacher's may come later.
        if judgement.judged_ms >= self._teacher_ms:
            self._teacher_ms = judgement.judged_ms
            self._is_now(teacher)
        judged = (judgement.query, judgement.item_id, judgement.content_hash, judgement.judged_ms)
        self._memory.remember([judged], teacher=teacher)

    def _is_now(self, teacher: str) -> None:
        if not self.teacher:
            self._memory.was_asked_of(teacher)
        elif teacher != self.teacher:
            self.counters["teachers_changed"] += 1
            self._asked.clear()
        self.teacher = teacher

    def observe(self, window: EngagementWindow) -> None:
        """Take the pairs of a window as candidates, but for those that were asked on the text they have now."""
        found = list(candidates(window, self._shape))
        if not found:
            return
        query = found[0].query
        asked = self._memory.asked(query, teacher=self.teacher)
        texts = self._memory.texts([candidate.item_id for candidate in found]) if asked else {}
        self._asked[query] = len(asked)
        for candidate in found:
            text = texts.get(candidate.item_id)
            if text is None or (candidate.item_id, text.content_hash) not in asked:
                self._add(candidate, asked=len(asked))
        if len(self._asked) > 2 * self._settings.max_candidates:
            # What is missing is looked up again.
            self._asked.clear()

    def _add(self, candidate: Candidate, *, asked: int) -> None:
        drew = lot(candidate.pair, seed=self._settings.seed)
        if drew < self._settings.uniform_share:
            self._shares[1].ranked.add(candidate, rank=drew, tie=0.0)
        else:
            self._shares[0].ranked.add(candidate, rank=-candidate.priority(asked), tie=drew)

    def draw(self, *, now_ms: int, room: int) -> list[Drawn]:
        """Return at most `room` pairs to ask now and keep them in memory's outbox, their price paid.

        `now_ms` is epoch milliseconds. One transaction of the memory.
        """
        drawn: list[Drawn] = []
        self.waits_for = "" if room > 0 else "the teacher, which has enough to do"
        with self._memory.transaction():
            # The small share first: it must not wait for the other to be satisfied.
            for share in reversed(self._shares):
                drawn += self._draw_from(share, now_ms=now_ms, room=room - len(drawn))
            self._memory.put_out(drawn)
            self._memory.store_ledger(self.ledger())
        return drawn

    def ledger(self) -> Ledger:
        """Return what the memory shall hold of budget, cost and teacher."""
        tokens = {share.name: share.tokens for share in self._shares}
        return Ledger(
            teacher=self.teacher,
            teacher_ms=self._teacher_ms,
            judgement_tokens=self.cost.tokens,
            best=tokens["best"],
            uniform=tokens.get("uniform"),
        )

    def _draw_from(self, share: _Share, *, now_ms: int, room: int) -> list[Drawn]:
        share.tokens.fill(now_ms)
        drawn: list[Drawn] = []
        uniform = share.name == "uniform"
        looked_at = 0
        while len(drawn) < room and len(share.ranked) and looked_at < MOST_LOOKED_AT:
            price = self.cost.tokens
            if price > share.tokens.tokens:
                self.waits_for = "tokens of its budget"
                break
            looked_at += 1
            candidate = share.ranked.pop(self._lot_of if uniform else self._rank_of)
            if candidate is None:
                break
            pair = self._pair(candidate, now_ms=now_ms, uniform=uniform)
            if isinstance(pair, str):
                self.counters[pair] += 1
                continue
            share.tokens.spend(price)
            drawn.append(Drawn(pair=pair, tokens=price))
            self._memory.remember(
                [(pair.query, pair.item_id, pair.content_hash, now_ms)], teacher=self.teacher
            )
            self._asked[pair.query] = self._asked.get(pair.query, 0) + 1
        self.counters["drawn"] += len(drawn)
        self.counters[f"drawn_{share.name}"] += len(drawn)
        return drawn

    def _pair(self, candidate: Candidate, *, now_ms: int, uniform: bool) -> Pair | str:
        """Return the pair to send, or in a word why it is passed over."""
        settings = self._settings
        if now_ms - candidate.seen_ms > settings.candidate_age_s * 1000:
            return "too_old"
        text = self._memory.texts([candidate.item_id]).get(candidate.item_id)
        if text is None:
            return "without_text"
        asked: Mapping[tuple[str, str], int] = self._memory.asked(candidate.query, teacher=self.teacher)
        if (candidate.item_id, text.content_hash) in asked:
            return "asked_before"
        of_late = sum(at_ms > now_ms - HOUR_MS for at_ms in asked.values())
        if not uniform and of_late >= settings.pairs_per_query_hour:
            return "over_query_cap"
        return Pair(
            query=candidate.query,
            item_id=candidate.item_id,
            item_text=text.text,
            content_hash=text.content_hash,
            reasons=candidate.reasons(len(asked), uniform=uniform),
            sampled_ms=now_ms,
            deadline_ms=now_ms + int(settings.deadline_s * 1000),
            traffic_class=candidate.traffic_class,
        )

    def _rank_of(self, candidate: Candidate) -> float:
        asked = self._asked.get(candidate.query)
        if asked is None:
            asked = len(self._memory.asked(candidate.query, teacher=self.teacher))
            self._asked[candidate.query] = asked
        return -candidate.priority(asked)

    def _lot_of(self, candidate: Candidate) -> float:
        return lot(candidate.pair, seed=self._settings.seed)
