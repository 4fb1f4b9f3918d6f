"""What the worker sends: judgements and refusals to their topics and the store, and dead letters."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from kafka import KafkaProducer
from kafka.consumer.fetcher import ConsumerRecord

from ops.clickhouse.publishing import SEND_TIMEOUT_S, publish, publish_dead_letters
from streams.dead_letters import letter_of
from streams.records import Judgement, Pair
from streams.topics import JUDGEMENTS
from teacher.cache import Identity
from teacher.parsing import Refusal
from teacher.rows import judgement_row, refusal_row


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair with its answer, and the records that asked for it."""

    pair: Pair
    identity: Identity
    result: Judgement | Refusal
    records: tuple[ConsumerRecord, ...]


@dataclass(frozen=True, slots=True)
class Unjudgeable:
    """A record that is no pair, and why."""

    record: ConsumerRecord
    reason: str
    detail: str


def deliver(client: KafkaProducer, judged: Sequence[Judged], unjudgeable: Sequence[Unjudgeable]) -> int:
    """Send it all, return how many dead letters there were once the broker has everything. Raises KafkaError if it
    won't; then everything is to be sent again."""
    now_ms = time.time_ns() // 1_000_000
    judgements = [each.result for each in judged if isinstance(each.result, Judgement)]
    sent = [
        client.send(
            JUDGEMENTS,
            key=judgement.query.encode("utf-8", "surrogatepass"),
            value=msgspec.json.encode(judgement),
        )
        for judgement in judgements
    ]
    letters = [
        letter_of(each.record, reason=each.reason, detail=each.detail, at_ms=now_ms) for each in unjudgeable
    ]
    refusals: list[dict[str, Any]] = []
    for each in judged:
        if isinstance(each.result, Judgement):
            continue
        refusals.append(_refusal_row(each.identity, each.result, at_ms=now_ms))
        reason, detail = f"teacher_{each.result.reason}", each.result.detail
        letters += [letter_of(record, reason=reason, detail=detail, at_ms=now_ms) for record in each.records]
    if letters:
        publish_dead_letters(client, letters)
    publish(client, "teacher_refusals", refusals)
    publish(client, "judgements", [judgement_row(judgement) for judgement in judgements])
    for future in sent:
        future.get(timeout=SEND_TIMEOUT_S)
    return len(letters)


def _refusal_row(identity: Identity, refusal: Refusal, *, at_ms: int) -> dict[str, Any]:
    return refusal_row(
        query=identity.query,
        item_id=identity.item_id,
        content_hash=identity.content_hash,
        teacher_id=identity.teacher_id,
        prompt_hash=identity.prompt_hash,
        reason=refusal.reason,
        detail=refusal.detail,
        at_ms=at_ms,
    )
