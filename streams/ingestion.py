"""From raw records of one partition to rows, deltas and dead letters: everything between two Kafka edges, pure.

One call handles a batch; what one record does wrong never touches another.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec

from streams import attribution
from streams.attribution import Emitted, Page, Windows
from streams.dead_letters import DeadLetter
from streams.frequency import QueryFrequency
from streams.normalise import normalise_query
from streams.pages import OpenPages, page_key
from streams.records import Interaction, Query
from streams.topics import UBI_QUERIES
from streams.ubi import Dialect, RejectedRecord, parse_event, parse_query

logger = logging.getLogger(__name__)


class RawRecord(msgspec.Struct, frozen=True, gc=False):
    """A record as it lies in Kafka. `resent` counts how often it was sent again out of the dead letters."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    resent: int = 0


@dataclass(slots=True)
class Outcome:
    """What a batch gave. `changed` maps page keys to their new bytes."""

    emitted: Emitted = field(default_factory=Emitted)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    changed: dict[bytes, bytes] = field(default_factory=dict)


def ingest(
    records: Sequence[RawRecord],
    *,
    pages: OpenPages,
    frequency: QueryFrequency,
    dialect: Dialect,
    windows: Windows,
    now_ms: int,
) -> Outcome:
    """Type, attribute and count the records of one partition, in order."""
    outcome = Outcome()
    open_now: dict[bytes, Page] = {}
    for record in records:
        try:
            typed = _typed(record, dialect, now_ms)
            _observe(typed, record.partition, open_now, outcome.emitted, pages, frequency, windows, now_ms)
        except RejectedRecord as rejection:
            outcome.dead_letters.append(_dead(record, rejection.reason, rejection.detail, now_ms))
        except Exception as error:
            logger.exception("unexpected fault at %s/%d/%d", record.topic, record.partition, record.offset)
            outcome.dead_letters.append(_dead(record, "internal", repr(error), now_ms))
    for key, page in open_now.items():
        outcome.changed[key] = pages.put(key, page)
    return outcome


def _typed(record: RawRecord, dialect: Dialect, now_ms: int) -> Query | Interaction:
    parse: Callable[..., Query | Interaction] = parse_query if record.topic == UBI_QUERIES else parse_event
    return parse(record.value, dialect=dialect, now_ms=now_ms)


def _observe(
    typed: Query | Interaction,
    partition: int,
    open_now: dict[bytes, Page],
    out: Emitted,
    pages: OpenPages,
    frequency: QueryFrequency,
    windows: Windows,
    now_ms: int,
) -> None:
    if not typed.query_id:
        page = Page(typed.timestamp_ms, now_ms)
    else:
        key = page_key(partition, typed.query_id)
        found = open_now.get(key) or pages.get(key)
        page = open_now[key] = found or Page(typed.timestamp_ms, now_ms)
        page.touched_ms = now_ms
    if isinstance(typed, Interaction):
        attribution.observe(page, typed, windows=windows, out=out)
        return
    normalised = normalise_query(typed.query)
    known = page.context is not None and page.context.query_event_id == typed.event_id
    # A query that is delivered again must not become more frequent by it.
    counted = frequency.classify if known else partial(frequency.count, now_s=now_ms / 1000)
    traffic_class = counted(normalised)
    attribution.observe_query(
        page,
        typed,
        traffic_class,
        windows=windows,
        out=out,
        searches=max(1, frequency.estimate(normalised)),
    )


def _dead(record: RawRecord, reason: str, detail: str, now_ms: int) -> DeadLetter:
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        reason=reason,
        detail=detail,
        key=record.key,
        value=record.value,
        at_ms=now_ms,
        resent=record.resent,
    )
