"""Inserts of JSON lines: what goes in, what is refused for its content, what has to be tried again.

The lines are never parsed here. If ClickHouse refuses a payload for its content, the payload is halved until
the bad lines stand alone: one bad line among n costs about 2 log2(n) tries of 2 to 3 ms.

Rows are taken strictly: a field that the table does not have, a missing one, or null where the column has
none is refused, not filled in. Times are epoch milliseconds (or RFC 3339 strings): newer versions of
ClickHouse read a number as seconds unless told otherwise, so this is told and tried before the first insert.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, Error

from ops.clickhouse.client import failure_reason

SETTINGS: dict[str, str | int] = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "date_time_input_format": "best_effort",
    "input_format_skip_unknown_fields": 0,
    "input_format_null_as_default": 0,
    "input_format_force_null_for_omitted_fields": 1,
    # One block for one token, and cheaper than several threads for payloads of this size.
    "input_format_parallel_parsing": 0,
    # What serving read must come back bit for bit.
    "precise_float_parsing": 1,
    # Event times are the senders': a batch that spans many years is odd, not wrong.
    "max_partitions_per_insert_block": 0,
}

#: Known to the versions of ClickHouse that would otherwise read numbers as seconds.
RAW_TIMES = "input_format_read_datetime_number_as_raw_value"

#: Error codes that speak of the rows: CANNOT_PARSE_*, INCORRECT_DATA, TYPE_MISMATCH, DECIMAL_OVERFLOW, ...
CONTENT_CODES = frozenset(
    {6, 25, 26, 27, 33, 38, 41, 53, 69, 70, 72, 117, 128, 130, 131, 306, 321, 349, 376, 407, 469, 467, 691}
)
#: Codes that may come up while rows are read but say nothing about them: memory, time, space, network, ...
PASSING_CODES = frozenset({159, 160, 202, 203, 209, 210, 236, 241, 242, 243, 252, 319, 394})
#: Where ClickHouse was when it failed; other codes in this place speak of the rows too.
READING_ROWS = ("JSONEachRowRowInputFormat", "(at row ")
_CODE = re.compile(r"\bCode: (\d+)\.")
MAX_DETAIL = 500
#: What differs from one try to the next, or says nothing.
_NOISE = re.compile(
    r"^.*?DB::Exception: (?:Code: \d+\. DB::Exception: )*|: \(in file/uri [^)]*\)|: While executing File.*$"
)


class RowsRefusedError(Exception):
    """ClickHouse won't have these rows, however often they are sent."""


class TryAgainError(Exception):
    """The insert failed for a reason outside the rows. The message is one line for people."""


@dataclass(frozen=True, slots=True)
class Part:
    """JSON lines that came in one message; `block` tells which."""

    block: int
    lines: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Lines of a message that ClickHouse refused, and its words for it."""

    block: int
    lines: bytes
    detail: str


def insert_what_fits(parts: Sequence[Part], insert: Callable[[bytes], None]) -> Iterator[Refusal]:
    """Insert every line that `insert` accepts and yield the others, each alone.

    `insert` takes JSON lines, all or nothing, and raises RowsRefusedError if one of them can't be had.
    """
    try:
        insert(b"".join(part.lines for part in parts))
        return
    except RowsRefusedError as error:
        detail = str(error)
    if len(parts) == 1:
        part = parts[0]
        parts = [Part(part.block, line + b"\n") for line in part.lines.split(b"\n") if line.strip()]
        if len(parts) <= 1:
            yield Refusal(part.block, part.lines, detail)
            return
    middle = len(parts) // 2
    yield from insert_what_fits(parts[:middle], insert)
    yield from insert_what_fits(parts[middle:], insert)


def deduplication_token(origin: str, lines: bytes) -> str:
    """Return the token of an insert: where the lines come from, and what they are.

    The digest is there because a broker that lost its last second gives the same offsets to other records.
    """
    return f"{origin}#{blake2b(lines, digest_size=12).hexdigest()}"


class Inserter:
    """Inserts JSON lines into the tables of one client's database."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._settings = dict(SETTINGS)
        if RAW_TIMES in client.server_settings:
            self._settings[RAW_TIMES] = 1
        self._reads_times = False
        self._columns: dict[str, list[str]] = {}

    def insert(self, table: str, lines: bytes, *, origin: str) -> None:
        """Insert the lines in one piece; the same lines of the same `origin` are inserted once.

        Raises RowsRefusedError if it is the rows' fault, TryAgainError if not, RuntimeError if the server has
        come to read times in another way since the client was opened.
        """
        try:
            self._check_times()
            self._client.raw_insert(
                table,
                column_names=self._columns_of(table),
                insert_block=lines,
                fmt="JSONEachRow",
                settings=self._settings | {"insert_deduplication_token": deduplication_token(origin, lines)},
            )
        except (ClickHouseError, OSError) as error:
            if speaks_of_rows(error):
                raise RowsRefusedError(_words(error)) from error
            # The server may come back as another version.
            self._reads_times = False
            self._columns.clear()
            raise TryAgainError(f"insert into {table}: {_words(error)}") from error

    def _check_times(self) -> None:
        if self._reads_times:
            return
        read = self._client.query(
            "SELECT toUnixTimestamp64Milli(time)"
            " FROM format(JSONEachRow, 'time DateTime64(3)', '{\"time\": 1700000000123}')",
            settings=self._settings,
        ).result_rows
        if list(read) != [(1_700_000_000_123,)]:
            raise RuntimeError(
                f"ClickHouse {self._client.server_version} reads the time 1700000000123 ms as {read}:"
                " open the client anew; if that does not help, this version is not supported"
            )
        self._reads_times = True

    def _columns_of(self, table: str) -> list[str]:
        """Return the columns that a row must give: all those without a default."""
        if table not in self._columns:
            rows = self._client.query(
                "SELECT name FROM system.columns"
                " WHERE database = currentDatabase() AND table = {table:String} AND default_kind = ''"
                " ORDER BY position",
                parameters={"table": table},
            ).result_rows
            if not rows:
                raise TryAgainError(f"table {table} does not exist in the database: run the migrations")
            self._columns[table] = [str(name) for (name,) in rows]
        return self._columns[table]


def speaks_of_rows(error: BaseException) -> bool:
    """Tell whether an error of ClickHouse is about the content of the rows: then trying again is in vain."""
    code, text = _code_and_text(error)
    if code is None or code in PASSING_CODES:
        return False
    return code in CONTENT_CODES or any(place in text for place in READING_ROWS)


def _code_and_text(error: BaseException) -> tuple[int | None, str]:
    code = error.code if isinstance(error, Error) else None
    cause = error.__cause__
    if code is None and isinstance(cause, UnicodeDecodeError):
        # The embedded engine's message quotes the row, cut anywhere, and the driver fails to decode it.
        text = cause.object.decode("utf-8", "backslashreplace")
        found = _CODE.search(text)
        return (int(found[1]) if found else None), text
    return code, str(error)


def _words(error: BaseException) -> str:
    code, text = _code_and_text(error)
    if code is None:
        return failure_reason(error)
    return _NOISE.sub("", " ".join(text.split()))[:MAX_DETAIL]
