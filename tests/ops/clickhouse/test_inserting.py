"""The search for bad rows and the reading of ClickHouse's errors."""

from __future__ import annotations

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError, ProgrammingError
from hypothesis import given
from hypothesis import strategies as st

from ops.clickhouse.inserting import (
    Part,
    RowsRefusedError,
    TryAgainError,
    deduplication_token,
    insert_what_fits,
    speaks_of_rows,
)

#: Blocks of rows; True marks a bad one.
BLOCKS = st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=8)


class Table:
    """Takes JSON lines, all or nothing, unless one of them says bad."""

    def __init__(self) -> None:
        self.rows: list[bytes] = []
        self.tries = 0

    def insert(self, lines: bytes) -> None:
        self.tries += 1
        if b"bad" in lines:
            raise RowsRefusedError("it says bad")
        self.rows += lines.splitlines()


@given(BLOCKS)
def test_good_rows_go_in_once_and_bad_ones_come_back(blocks: list[list[bool]]) -> None:
    named = [
        [f"{'bad' if bad else 'row'}-{i}-{j}" for j, bad in enumerate(block)]
        for i, block in enumerate(blocks)
    ]
    parts = [Part(i, "".join(f"{row}\n" for row in block).encode()) for i, block in enumerate(named)]
    table = Table()
    refusals = list(insert_what_fits(parts, table.insert))
    rows = [row for block in named for row in block]
    assert table.rows == [row.encode() for row in rows if row.startswith("row")]
    assert [refusal.lines.strip().decode() for refusal in refusals] == [
        row for row in rows if row.startswith("bad")
    ]
    assert all(f"-{refusal.block}-".encode() in refusal.lines for refusal in refusals)
    assert {refusal.detail for refusal in refusals} <= {"it says bad"}


def test_one_bad_row_costs_logarithmic_tries() -> None:
    lines = b"".join(b"bad\n" if number == 700 else b"row\n" for number in range(1024))
    table = Table()
    (refusal,) = insert_what_fits([Part(0, lines)], table.insert)
    assert refusal.lines == b"bad\n"
    assert len(table.rows) == 1023
    assert table.tries <= 2 * 10 + 2


def test_a_passing_failure_goes_through() -> None:
    def insert(_lines: bytes) -> None:
        raise TryAgainError("no answer")

    with pytest.raises(TryAgainError):
        list(insert_what_fits([Part(0, b"a\nb\n")], insert))


def with_cause(error: DatabaseError, cause: Exception) -> DatabaseError:
    error.__cause__ = cause
    return error


UNDECODABLE = b"Code: 27. DB::Exception: Cannot parse input before: '\xc3'"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DatabaseError("Cannot parse UUID", code=376), True),
        (DatabaseError("odd: (at row 3) : While executing JSONEachRowRowInputFormat", code=9999), True),
        (DatabaseError("Memory limit: While executing JSONEachRowRowInputFormat", code=241), False),
        (DatabaseError("Too many parts", code=252), False),
        (DatabaseError("Table does not exist", code=60), False),
        (DatabaseError("no code"), False),
        (OperationalError("Connection refused"), False),
        (ProgrammingError("The client has been closed"), False),
        (OSError("No space left on device"), False),
        (
            with_cause(DatabaseError("utf-8"), UnicodeDecodeError("utf-8", UNDECODABLE, 50, 51, "invalid")),
            True,
        ),
    ],
)
def test_errors_about_rows_are_told_from_others(error: Exception, expected: bool) -> None:
    assert speaks_of_rows(error) is expected


def test_a_token_names_origin_and_content() -> None:
    token = deduplication_token("metrics.rows:0:1-2", b"a\n")
    assert token == deduplication_token("metrics.rows:0:1-2", b"a\n")
    assert token.startswith("metrics.rows:0:1-2#")
    assert token != deduplication_token("metrics.rows:0:1-2", b"b\n")
    assert token != deduplication_token("metrics.rows:0:1-3", b"a\n")
