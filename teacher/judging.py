"""Judging pairs: the prompt sent, the answer read, the judgement kept under its identity.

A judgement is never asked for twice; a refusal is never kept, so what was refused can be retried alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

import msgspec

from ops.settings import Settings
from streams.item_text import content_hash, query_text
from streams.records import Judgement
from teacher.cache import FILE_NAME, Identity, JudgementCache
from teacher.client import (
    BadResponseError,
    RejectedError,
    TeacherClient,
    UnavailableError,
)
from teacher.completion import Completion
from teacher.parsing import Chain, Refusal, RefusalReason, parse, parse_grade
from teacher.policy import Policy, configured
from teacher.probe import probe
from teacher.prompt import Mode, answer_form, messages, prompt_hash
from teacher.scoring import ScoringError, read_grades, relevance_score
from teacher.serving.address import teacher_urls

#: No key, no right, no such model: no pair would fare better.
_MISCONFIGURED: Final = frozenset({401, 403, 404})


class Judgeable(Protocol):
    """A pair in cleaned texts: `streams.records.Pair`, `teacher.examples.Example` and their like."""

    @property
    def query(self) -> str:
        """Return the query."""

    @property
    def item_id(self) -> str:
        """Return the item's id."""

    @property
    def item_text(self) -> str:
        """Return the item's text."""


Result = Judgement | Refusal
OnResult = Callable[[int, Result], None]


def read_answer(
    completion: Completion, *, policy: Policy, mode: Mode, query: str, item_text: str
) -> tuple[Chain, dict[str, float]] | Refusal:
    """Return the chain and the grade distribution of an answer, or why there is none. Pure, never raises."""
    allowed = ("stop", "length") if mode is Mode.SCORE else ("stop",)
    if completion.finish_reason == "length" and mode is Mode.CHAIN:
        detail = f"cut after {completion.completion_tokens} tokens: raise teacher.max_tokens"
        return _priced(Refusal(reason=RefusalReason.TRUNCATED, detail=detail), completion)
    if completion.finish_reason not in allowed:
        detail = f"expected the answer to end by itself, it ended by {completion.finish_reason!r}"
        return _priced(Refusal(reason=RefusalReason.BAD_RESPONSE, detail=detail), completion)
    if mode is Mode.SCORE:
        chain = parse_grade(completion.text, policy=policy)
    else:
        chain = parse(completion.text, policy=policy, query=query, item_text=item_text)
    if isinstance(chain, Refusal):
        return _priced(chain, completion)
    after = "" if mode is Mode.SCORE else "grade:"
    try:
        grades = read_grades(completion.tokens, written=chain.grade, labels=policy.labels, after=after)
    except ScoringError as error:
        return _priced(Refusal(reason=RefusalReason.NO_PROBABILITIES, detail=str(error)), completion)
    return chain, grades


def _priced(refusal: Refusal, completion: Completion) -> Refusal:
    return msgspec.structs.replace(
        refusal,
        answer=completion.text,
        latency_ms=completion.latency_ms,
        prompt_tokens=completion.prompt_tokens,
        cached_tokens=completion.cached_tokens,
        completion_tokens=completion.completion_tokens,
    )


def answer_tokens(mode: Mode, max_tokens: int) -> int:
    """Return how many tokens to generate: a grade alone is one, and its end need not be waited for."""
    return 1 if mode is Mode.SCORE else max_tokens


class Judge:
    """One teacher under one policy. Safe to use from many tasks of one event loop."""

    def __init__(
        self,
        client: TeacherClient,
        *,
        policy: Policy,
        mode: Mode,
        teacher_id: str,
        max_tokens: int,
        temperature: float = 0.0,
        cache: JudgementCache | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Take what shapes an answer; without `cache` nothing is kept. `now_ms` is epoch milliseconds."""
        self.policy = policy
        self.mode = mode
        self.teacher_id = teacher_id
        self.prompt_hash = prompt_hash(policy, mode, max_tokens=max_tokens, temperature=temperature)
        self._client = client
        self._max_tokens = answer_tokens(mode, max_tokens)
        self._temperature = temperature
        self._form = answer_form(policy, mode)
        self._cache = cache
        self._now_ms = now_ms

    def identity(self, query: str, item_id: str, item_text: str) -> Identity:
        """Return the name of this teacher's judgement of a pair."""
        return Identity(
            query=query_text(query),
            item_id=item_id,
            content_hash=content_hash(item_text),
            teacher_id=self.teacher_id,
            prompt_hash=self.prompt_hash,
        )

    async def judge(self, query: str, item_id: str, item_text: str) -> Result:
        """Return the judgement of a pair, from the cache if it is there, else from the teacher.

        The query is cleaned here; `item_text` is one made by `streams.item_text`. Raises RejectedError if the
        endpoint lets nobody in or does not know the model; every other fault is a refusal of this pair.
        """
        if self._cache is None:
            return await self.ask(query, item_id, item_text)
        name = self.identity(query, item_id, item_text)
        if (known := self._cache.get(name)) is not None:
            return known
        result = await self.ask(query, item_id, item_text)
        if isinstance(result, Refusal):
            return result
        self._cache.put(result)
        # Another process may have been first: what is kept is what holds.
        return self._cache.get(name) or result

    async def ask(self, query: str, item_id: str, item_text: str, *, seed: int | None = None) -> Result:
        """Return a fresh answer, neither looked up nor kept: a sample, if the temperature is above 0."""
        name = self.identity(query, item_id, item_text)
        if problem := _unfit(name.query, item_id, item_text):
            return Refusal(reason=RefusalReason.UNFIT_TEXT, detail=problem)
        try:
            completion = await self._client.complete(
                messages(self.policy, self.mode, name.query, item_text),
                max_tokens=self._max_tokens,
                regex=self._form,
                temperature=self._temperature,
                seed=seed,
            )
        except UnavailableError as error:
            return Refusal(reason=RefusalReason.UNAVAILABLE, detail=str(error))
        except BadResponseError as error:
            return Refusal(reason=RefusalReason.BAD_RESPONSE, detail=str(error))
        except RejectedError as error:
            if error.status in _MISCONFIGURED:
                raise
            return Refusal(reason=RefusalReason.REJECTED, detail=str(error))
        read = read_answer(
            completion, policy=self.policy, mode=self.mode, query=name.query, item_text=item_text
        )
        if isinstance(read, Refusal):
            return read
        chain, grades = read
        return Judgement(
            query=name.query,
            item_id=item_id,
            item_text=item_text,
            content_hash=name.content_hash,
            teacher_id=name.teacher_id,
            prompt_hash=name.prompt_hash,
            grades=grades,
            grade=max(grades, key=grades.__getitem__),
            relevance_score=relevance_score(grades, self.policy.gains),
            verdicts=chain.verdicts,
            unlocated=chain.unlocated,
            chain_of_thought=completion.text,
            latency_ms=completion.latency_ms,
            prompt_tokens=completion.prompt_tokens,
            cached_tokens=completion.cached_tokens,
            completion_tokens=completion.completion_tokens,
            judged_ms=self._now_ms(),
        )

    async def judge_all(
        self, pairs: Sequence[Judgeable], *, on_result: OnResult | None = None
    ) -> list[Result]:
        """Return a result for each pair, in order; pairs that are the same are asked once.

        `on_result` is told each pair's place and result as it comes. Whatever it or `judge` raises stops the
        call, its open requests with it; so does cancellation. Judgements made until then are in the cache.
        """
        same: dict[Identity, list[int]] = {}
        for place, pair in enumerate(pairs):
            same.setdefault(self.identity(pair.query, pair.item_id, pair.item_text), []).append(place)
        results: list[Result | None] = [None] * len(pairs)
        waiting = iter(same.values())

        async def work() -> None:
            for places in waiting:
                pair = pairs[places[0]]
                result = await self.judge(pair.query, pair.item_id, pair.item_text)
                for place in places:
                    results[place] = result
                    if on_result:
                        on_result(place, result)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._client.concurrency, len(same))):
                    group.create_task(work())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [result for result in results if result is not None]


def _unfit(query: str, item_id: str, item_text: str) -> str:
    """Return what keeps the texts from being sent, empty if nothing does."""
    if not query:
        return "expected a query, got nothing that can be read"
    if not item_text.strip():
        return "expected an item text, got nothing"
    try:
        (item_id + item_text).encode()
    except UnicodeEncodeError as error:
        return f"expected an item text made by streams.item_text and an id that can be encoded: {error}"
    return ""


@asynccontextmanager
async def open_judge(settings: Settings, *, wait_for_server_s: float = 0) -> AsyncIterator[Judge]:
    """Yield the judge that the settings describe, its endpoints probed, its cache in the run directory.

    Raises ProbeError if the teacher cannot judge, NotRunningError if none is set or running, PolicyError or
    CacheError.
    """
    teacher = settings.teacher
    policy, mode = configured(teacher), Mode(teacher.mode)
    client = TeacherClient(
        teacher_urls(settings),
        model=teacher.model,
        api_key=teacher.api_key.get_secret_value(),
        concurrency=teacher.concurrency,
        timeout_s=teacher.timeout_s,
        retries=teacher.retries,
        wait_for_server_s=wait_for_server_s,
    )
    async with client:
        report = await probe(
            client, policy=policy, mode=mode, max_tokens=answer_tokens(mode, teacher.max_tokens)
        )
        with JudgementCache(settings.run_dir / FILE_NAME) as cache:
            yield Judge(
                client,
                policy=policy,
                mode=mode,
                teacher_id=report.teacher_id,
                max_tokens=teacher.max_tokens,
                temperature=teacher.temperature,
                cache=cache,
            )
