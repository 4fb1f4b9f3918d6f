"""A record of `relevance.judgements` as the trainer keeps it, or why it cannot be learned from."""

from __future__ import annotations

import hashlib

import msgspec
from kafka.consumer.fetcher import ConsumerRecord

from streams.dead_letters import DeadLetter, letter_of
from streams.judgement_identity import identity_of
from streams.records import Judgement
from students.examples import ExampleError, LabelledPair, TrainingExample, from_judgement, from_label
from students.grades import GradeScale

HEAD, TORSO, TAIL = CLASSES = ("head", "torso", "tail")

_judgement = msgspec.json.Decoder(Judgement).decode


class Judged(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A judgement with its stored distribution and evidence. `identity` names it: 16 hexadecimal digits.

    `traffic_class` is head, torso or tail; a query of which nobody told it counts as tail, which is what is mostly
    sampled. Times are epoch milliseconds, `sampled_ms` 0 if it was not told.
    """

    identity: str
    example: TrainingExample
    traffic_class: str
    judged_ms: int
    sampled_ms: int


class RefusedError(ValueError):
    """A record cannot be learned from. `reason` is one word for the dead letter, the message says why."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def read(value: bytes | None, scale: GradeScale) -> Judged:
    """Return the judgement of a record's value. Raises RefusedError."""
    try:
        judgement = _judgement(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError("not_a_judgement", str(error)) from error
    try:
        example = from_judgement(judgement, scale)
        identity = identity_of(judgement)
    except (ExampleError, UnicodeEncodeError) as error:
        raise RefusedError("cannot_be_learned_from", str(error)) from error
    return Judged(
        identity=identity,
        example=example,
        traffic_class=_class_of(judgement.traffic_class),
        judged_ms=judgement.judged_ms,
        sampled_ms=judgement.sampled_ms,
    )


def graded(pair: LabelledPair, scale: GradeScale) -> Judged:
    """Return a person's grade as a judgement of no time and without chain. Raises ExampleError."""
    example = from_label(pair, scale)
    named = msgspec.json.encode(("people", example.query, example.item_id, example.item_text))
    return Judged(
        identity=hashlib.blake2b(named, digest_size=8).hexdigest(),
        example=example,
        traffic_class=_class_of(pair.traffic_class),
        judged_ms=0,
        sampled_ms=0,
    )


def is_held_out(query: str, share: float) -> bool:
    """Tell whether a query's judgements are kept for the gate and never learned from.

    The rule is a hash of the query alone, case aside, so that it holds for all its items and for ever.
    """
    digest = hashlib.blake2b(b"held out:" + query.casefold().encode(), digest_size=8).digest()
    return int.from_bytes(digest) < share * 2**64


def dead_letter(record: ConsumerRecord, error: RefusedError, *, at_ms: int) -> DeadLetter:
    """Return the dead letter of a refused record."""
    return letter_of(record, reason=error.reason, detail=str(error), at_ms=at_ms)


def _class_of(told: str) -> str:
    return told if told in CLASSES else TAIL
