"""Row blocks survive the trip through Kafka and never grow beyond what a message may hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.rows import RowBlock, from_message, to_blocks

rows = st.lists(st.fixed_dictionaries({"query": st.text(max_size=50), "n": st.integers(-9, 9)}), max_size=40)


@given(rows=rows, max_bytes=st.integers(1, 400))
def test_blocks_hold_all_rows_in_order_within_the_size(rows: list[dict[str, Any]], max_bytes: int) -> None:
    blocks = list(to_blocks("queries", rows, max_bytes))
    lines = [json.loads(line) for block in blocks for line in block.lines.splitlines()]
    assert lines == rows
    assert sum(block.rows for block in blocks) == len(rows)
    assert all(len(block.lines) <= max_bytes or block.rows == 1 for block in blocks)


def test_a_block_comes_back_from_its_message() -> None:
    block = RowBlock("clicks", 2, b"{}\n{}\n")
    assert from_message(block.headers(), block.lines) == block


@pytest.mark.parametrize(
    ("headers", "value", "named"),
    [
        ([], b"{}", "table"),
        ([("table", b"users; DROP TABLE clicks")], b"{}", "table"),
        ([("table", b"clicks")], b"{}", "rows"),
        ([("table", b"clicks"), ("rows", b"-1")], b"{}", "rows"),
        ([("table", b"clicks"), ("rows", b"1")], None, "empty"),
    ],
)
def test_what_is_no_block_is_refused(
    headers: list[tuple[str, bytes]], value: bytes | None, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        from_message(headers, value)
