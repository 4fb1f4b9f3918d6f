"""Dead letters: what could not be processed, byte for byte, with where it came from and why.

On the topic the value and key are the original bytes and the rest stands in headers, so that a letter is never
larger than its record by more than a line, and sending it again needs no decoding.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import msgspec

from streams.topics import MAX_DEAD_LETTER_BYTES

MAX_DETAIL_CHARS = 500
PREVIEW_BYTES = 4096
#: The topic's limit holds for the whole record; headers and framing need some of it.
MAX_VALUE_BYTES = MAX_DEAD_LETTER_BYTES - 65_536
#: How often a record was sent again: a letter that keeps coming back is recognised by it.
RESENT_HEADER = "resent"


class DeadLetter(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """`topic`, `partition` and `offset` are those of the original record; `at_ms` is when it was refused."""

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    key: bytes | None
    value: bytes | None
    at_ms: int
    resent: int = 0

    def headers(self) -> list[tuple[str, bytes]]:
        """Return the headers of the record on `relevance.dead-letters`."""
        return [
            ("source-topic", self.topic.encode()),
            ("source-partition", str(self.partition).encode()),
            ("source-offset", str(self.offset).encode()),
            ("reason", self.reason.encode()),
            ("detail", self.detail[:MAX_DETAIL_CHARS].encode("utf-8", "replace")),
            ("at-ms", str(self.at_ms).encode()),
            (RESENT_HEADER, str(self.resent).encode()),
        ]

    def row(self) -> dict[str, Any]:
        """Return the row for ClickHouse's `dead_letters`."""
        value = self.value or b""
        return {
            "source_topic": self.topic,
            "source_partition": self.partition,
            "source_offset": self.offset,
            "reason": self.reason,
            "detail": self.detail[:MAX_DETAIL_CHARS].encode("utf-8", "replace").decode(),
            "payload_bytes": len(value),
            "payload_base64": base64.b64encode(value[:PREVIEW_BYTES]).decode(),
            "event_time": self.at_ms,
            "version": 1,
        }


def letter_of(record: Any, *, reason: str, detail: str, at_ms: int, value: bytes | None = None) -> DeadLetter:
    """Return the dead letter of a record as kafka-python gives it, its value cut where it is too large.

    `value` takes the place of the record's, where only a part of it is refused.
    """
    value = (record.value or b"") if value is None else value
    if len(value) > MAX_VALUE_BYTES:
        detail = f"(cut to {MAX_VALUE_BYTES} of {len(value)} bytes) {detail}"
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        reason=reason,
        detail=detail,
        key=record.key,
        value=value[:MAX_VALUE_BYTES],
        at_ms=at_ms,
        resent=resent_count(record.headers),
    )


def from_message(
    headers: Iterable[tuple[str, bytes]], *, key: bytes | None, value: bytes | None
) -> DeadLetter:
    """Read a dead letter back from its Kafka record. Raises ValueError if a header is missing or wrong."""
    named = {name: content.decode("utf-8", "replace") for name, content in headers}
    try:
        return DeadLetter(
            topic=named["source-topic"],
            partition=int(named["source-partition"]),
            offset=int(named["source-offset"]),
            reason=named["reason"],
            detail=named["detail"],
            key=key,
            value=value,
            at_ms=int(named["at-ms"]),
            resent=int(named.get(RESENT_HEADER, "0")),
        )
    except KeyError as error:
        raise ValueError(f"not a dead letter: header {error.args[0]!r} is missing") from None


def resent_count(headers: Iterable[tuple[str, bytes]]) -> int:
    """Return how often a record was sent again, 0 if it says nothing sensible."""
    content = dict(headers).get(RESENT_HEADER, b"0")
    return int(content) if content.isdigit() and len(content) <= 6 else 0
