"""Row blocks: many rows for one ClickHouse table in one Kafka message, as JSON lines.

A message costs about the same whether it holds one row or five hundred, so the streams worker ships blocks
and the sink hands their bytes to ClickHouse (`FORMAT JSONEachRow`) without looking inside.
The header `table` names the table, `rows` the number of lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

#: Every table a block may name; its columns are those of the migrations in `ops/clickhouse`.
TABLES = (
    "queries",
    "impressions",
    "clicks",
    "conversions",
    "interactions",
    "exposures",
    "dead_letters",
    "judgements",
    "teacher_refusals",
    "teacher_reports",
    "student_versions",
    "feature_reads",
    "feature_audits",
    "sampled_pairs",
    "student_updates",
)
NIL_UUID = "00000000-0000-0000-0000-000000000000"
MAX_BLOCK_BYTES = 700_000

_encoder = msgspec.json.Encoder()


class RowBlock(msgspec.Struct, frozen=True, gc=False):
    """`rows` JSON lines for `table`."""

    table: str
    rows: int
    lines: bytes

    def headers(self) -> list[tuple[str, bytes]]:
        """Return the Kafka headers that go with `lines` as the message's value."""
        return [("table", self.table.encode()), ("rows", str(self.rows).encode())]


def to_blocks(table: str, rows: Sequence[Any], max_bytes: int = MAX_BLOCK_BYTES) -> Iterator[RowBlock]:
    """Pack rows (mappings or structs) into blocks of at most `max_bytes`, one larger row in a block of its own."""
    lines = _encoder.encode_lines(rows)
    if len(lines) <= max_bytes:
        if rows:
            yield RowBlock(table, len(rows), lines)
        return
    if len(rows) == 1:
        yield RowBlock(table, 1, lines)
        return
    middle = len(rows) // 2
    yield from to_blocks(table, rows[:middle], max_bytes)
    yield from to_blocks(table, rows[middle:], max_bytes)


def from_message(headers: Iterable[tuple[str, bytes]], value: bytes | None) -> RowBlock:
    """Read a block back from a Kafka message. Raises ValueError if it is not one."""
    named = dict(headers)
    table = named.get("table", b"").decode("utf-8", "replace")
    count = named.get("rows", b"")
    if table not in TABLES:
        raise ValueError(f"expected a header 'table' with one of {', '.join(TABLES)}, got {table[:80]!r}")
    if not count.isdigit() or len(count) > 9:
        raise ValueError(f"expected a header 'rows' with a number, got {count[:20]!r}")
    if not value:
        raise ValueError("expected JSON lines, got an empty value")
    return RowBlock(table, int(count), value)
