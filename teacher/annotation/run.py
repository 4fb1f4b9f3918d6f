"""An annotation from pairs to outputs: asks what the ledger lacks, the arbiter where needed, and settles every pair.

A request in flight when the process is killed is asked again; everything that was answered and recorded is not.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import msgspec

from ops.settings import Teacher
from teacher.annotation.ledger import Author, Key, Ledger
from teacher.annotation.pairs import PairToAnnotate
from teacher.annotation.rule import Rule
from teacher.annotation.settings import Annotation, Annotator
from teacher.annotation.settlement import Plan, is_open
from teacher.client import TeacherClient, TeacherError
from teacher.judging import Judge, Result, answer_tokens
from teacher.parsing import Refusal, RefusalReason
from teacher.policy import Policy
from teacher.probe import probe
from teacher.prompt import Mode, prompt_hash

#: A server that stops in an orderly way cuts its answers short, which is no fault of the pair.
BAD_RESPONSE_TRIES: Final = 3
BAD_RESPONSE_REST_S: Final = 1.0

OnAnswer = Callable[[str, Result], None]


class AnnotatorAwayError(TeacherError):
    """An annotator's endpoint answers nothing any more. What is recorded stays."""


class Question(msgspec.Struct, frozen=True):
    """A sample to ask for."""

    key: Key
    pair: PairToAnnotate


def plan_of(annotation: Annotation, policy: Policy) -> Plan:
    """Return the plan that the settings describe."""
    return Plan(
        annotators=tuple(each.name for each in annotation.annotators),
        arbiter=annotation.arbiter.name if annotation.arbiter else None,
        samples=annotation.samples,
        rule=Rule(
            self_agreement=annotation.self_agreement, when_person_disagrees=annotation.person_disagrees
        ),
        labels=policy.labels,
    )


def authors_of(annotation: Annotation, policy: Policy, *, max_tokens: int) -> dict[str, Author]:
    """Return who answers what under each name. The number of samples is not part of it, so it may be raised."""
    asked = prompt_hash(policy, Mode.CHAIN, max_tokens=max_tokens, temperature=annotation.temperature)
    return {each.name: Author(model=each.model, prompt_hash=asked) for each in annotation.everyone}


def questions(
    pairs: Iterable[PairToAnnotate], annotator: str, *, samples: int, answered: set[Key]
) -> list[Question]:
    """Return what is still to be asked of an annotator; a pair's samples together, since they share a prompt."""
    keys = ((pair, Key(pair.key, annotator, sample)) for pair in pairs for sample in range(samples))
    return [Question(key, pair) for pair, key in keys if key not in answered]


def complete(pair: PairToAnnotate, names: Sequence[str], *, samples: int, answered: set[Key]) -> bool:
    """Tell whether all these annotators have answered on a pair."""
    return all(Key(pair.key, name, sample) in answered for name in names for sample in range(samples))


def open_pairs(pairs: Iterable[PairToAnnotate], plan: Plan, ledger: Ledger) -> list[PairToAnnotate]:
    """Return the pairs that the arbiter has to look at: fully answered, not agreed on, not reviewed by a person."""
    answered, reviewed = ledger.keys(), ledger.reviews()
    return [
        pair
        for pair in pairs
        if pair.key not in reviewed
        and complete(pair, plan.annotators, samples=plan.samples, answered=answered)
        and is_open(ledger.answers(pair.key, annotators=plan.annotators, samples=plan.samples), plan)
    ]


def seed_of(key: Key) -> int:
    """Return the seed to sample with, in [0, 2^31): another one for each sample, so that no cache in between
    answers them all alike."""
    named = msgspec.json.encode((key.pair, key.annotator, key.sample))
    return int.from_bytes(hashlib.blake2b(named, digest_size=4).digest()) >> 1


@asynccontextmanager
async def open_judge(
    annotator: Annotator, *, teacher: Teacher, policy: Policy, temperature: float, wait_for_server_s: float
) -> AsyncIterator[Judge]:
    """Yield the judge behind an annotator, its endpoints probed. Raises ProbeError if they cannot judge.

    An endpoint that is away at the start is an error, so that a wrong address is told at once; later it is waited
    for.
    """

    def client(wait_for_server_s: float) -> TeacherClient:
        return TeacherClient(
            [url.strip() for url in annotator.url.split(",")],
            model=annotator.model,
            api_key=annotator.api_key(),
            concurrency=annotator.concurrency or teacher.concurrency,
            timeout_s=teacher.timeout_s,
            retries=teacher.retries,
            wait_for_server_s=wait_for_server_s,
        )

    max_tokens = answer_tokens(Mode.CHAIN, teacher.max_tokens)
    async with client(0) as first:
        report = await probe(first, policy=policy, mode=Mode.CHAIN, max_tokens=max_tokens)
    async with client(wait_for_server_s) as patient:
        yield Judge(
            patient,
            policy=policy,
            mode=Mode.CHAIN,
            teacher_id=report.teacher_id,
            max_tokens=teacher.max_tokens,
            temperature=temperature,
        )


async def ask(
    judge: Judge,
    annotator: str,
    asked: Sequence[Question],
    ledger: Ledger,
    *,
    concurrency: int,
    on_answer: OnAnswer,
) -> None:
    """Ask the questions and record every answer as it comes.

    A question that finds the endpoint away is left for another run. Raises AnnotatorAwayError when as many in a
    row as are in flight have found it so, RejectedError if the endpoint lets nobody in, LedgerError.
    """
    waiting = iter(asked)
    away_in_a_row = 0

    async def work() -> None:
        nonlocal away_in_a_row
        for question in waiting:
            result = await _answer(judge, question)
            if isinstance(result, Refusal) and result.reason is RefusalReason.UNAVAILABLE:
                away_in_a_row += 1
                if away_in_a_row >= min(concurrency, len(asked)):
                    raise AnnotatorAwayError(f"annotator {annotator} is away: {result.detail}")
                continue
            away_in_a_row = 0
            ledger.record(question.key, result)
            on_answer(annotator, result)

    await _together([work() for _ in range(min(concurrency, len(asked)))])


async def _answer(judge: Judge, question: Question) -> Result:
    pair = question.pair
    for tries in range(1, BAD_RESPONSE_TRIES + 1):
        result = await judge.ask(pair.query, pair.item_id, pair.item_text, seed=seed_of(question.key))
        bad = isinstance(result, Refusal) and result.reason is RefusalReason.BAD_RESPONSE
        if not bad or tries == BAD_RESPONSE_TRIES:
            break
        await asyncio.sleep(BAD_RESPONSE_REST_S)
    return result


async def ask_everyone(
    annotators: Sequence[Annotator],
    asked: Mapping[str, Sequence[Question]],
    ledger: Ledger,
    *,
    annotation: Annotation,
    teacher: Teacher,
    policy: Policy,
    wait_for_server_s: float,
    on_answer: OnAnswer,
) -> None:
    """Ask these annotators side by side; an endpoint that has nothing to answer is not looked at.

    Raises what `open_judge`, `Ledger.identify` and `ask` raise, the first of it.
    """
    busy = [each for each in annotators if asked[each.name]]
    async with AsyncExitStack() as stack:
        judges = {}
        for each in busy:
            judge = await stack.enter_async_context(
                open_judge(
                    each,
                    teacher=teacher,
                    policy=policy,
                    temperature=annotation.temperature,
                    wait_for_server_s=wait_for_server_s,
                )
            )
            ledger.identify(each.name, judge.teacher_id)
            judges[each.name] = judge
        await _together(
            [
                ask(
                    judges[each.name],
                    each.name,
                    asked[each.name],
                    ledger,
                    concurrency=each.concurrency or teacher.concurrency,
                    on_answer=on_answer,
                )
                for each in busy
            ]
        )


async def _together(work: Iterable[Coroutine[None, None, None]]) -> None:
    """Run all to the end; the first error ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
