"""The file in which people grade what the annotators could not settle: CSV or JSON lines, out and back in.

A CSV is opened in a spreadsheet, and its texts are strangers': a cell that a spreadsheet would take for a formula
gets an apostrophe in front, which is taken off again when the file is read.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from ops.files import write_atomically

#: What begins a formula (OWASP, CSV injection), and the mark itself, so that escaping can be undone.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")
_BEFORE = ("pair", "query", "item_id", "item_text", "reason", "person_grade")
_AFTER = ("grade", "comment")


class ReviewError(ValueError):
    """A review file cannot be read. The message names file, line and what was expected."""


class View(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an annotator said of the pair: grade (empty if it gave none), self-agreement in [0, 1], its best
    chain of thought for that grade."""

    annotator: str
    grade: str
    self_agreement: float
    chain: str


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pair for people. `pair` names it (`PairToAnnotate.key`); `grade` and `comment` are theirs to fill in."""

    pair: str
    query: str
    item_id: str
    item_text: str
    reason: str
    person_grade: str
    views: tuple[View, ...]
    grade: str = ""
    comment: str = ""


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """A person's word on a pair."""

    grade: str
    comment: str


def escape(cell: str) -> str:
    """Return a cell that no spreadsheet runs.

    >>> escape("=1+1"), escape("-20 % mug"), escape("mug")
    ("'=1+1", "'-20 % mug", 'mug')
    """
    return "'" + cell if cell.startswith(_FORMULA) else cell


def unescape(cell: str) -> str:
    """Undo `escape`; leave other cells alone.

    >>> unescape("'=1+1"), unescape("'tis")
    ('=1+1', "'tis")
    """
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def save_csv(path: Path, rows: Sequence[Row], annotators: Sequence[str]) -> None:
    """Write the rows as CSV, whole or not at all: a grade, self-agreement and chain column an annotator."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    told = ("grade", "self_agreement", "chain")
    writer.writerow([*_BEFORE, *(f"{name}_{what}" for name in annotators for what in told), *_AFTER])
    for row in rows:
        views = {view.annotator: view for view in row.views}
        cells = [getattr(row, name) for name in _BEFORE]
        for name in annotators:
            view = views.get(name)
            cells += [view.grade, f"{view.self_agreement:.2f}", view.chain] if view else ["", "", ""]
        writer.writerow([escape(cell) for cell in (*cells, row.grade, row.comment)])
    # Spreadsheets take UTF-8 for Latin-1 without the mark.
    write_atomically(path, text.getvalue().encode("utf-8-sig", "replace"))


def save_jsonl(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as JSON lines, whole or not at all."""
    write_atomically(path, msgspec.json.Encoder().encode_lines(list(rows)))


def read(path: Path, *, labels: Sequence[str], pairs: frozenset[str] | set[str]) -> dict[str, Review]:
    """Read a filled-in review file, CSV or (`.jsonl`) JSON lines, and return the reviews by the pair's name.

    Rows without a grade are still open and left out; of a CSV only the columns pair, grade and comment are read.
    Raises ReviewError, with file and line, for a file that is missing or not of this form, a pair that is not one
    of `pairs` or comes twice, and a grade that is not one of `labels`.
    """
    rows = _jsonl(path) if path.suffix == ".jsonl" else _csv(path)
    seen: dict[str, int] = {}
    reviews: dict[str, Review] = {}
    try:
        for line, pair, grade, comment in rows:
            if pair not in pairs:
                raise ReviewError(f"{path}:{line}: {pair!r} is not among the pairs of this run")
            if (first := seen.setdefault(pair, line)) != line:
                raise ReviewError(
                    f"{path}:{line}: {pair} stands in line {first} already: keep one of the two"
                )
            if grade and grade not in labels:
                raise ReviewError(f"{path}:{line}: expected a grade of {', '.join(labels)}, got {grade!r}")
            if grade:
                reviews[pair] = Review(grade=grade, comment=comment)
    except OSError as error:
        raise ReviewError(f"{path}: {error}") from error
    return reviews


def not_read_in(path: Path, known: Mapping[str, Review]) -> int:
    """Return how many grades people wrote into `path` that `known` does not hold; 0 if there is no such file."""
    if not path.exists():
        return 0
    rows = _jsonl(path) if path.suffix == ".jsonl" else _csv(path)
    return sum(
        bool(grade) and (pair not in known or known[pair].grade != grade) for _, pair, grade, _ in rows
    )


def _jsonl(path: Path) -> Iterator[tuple[int, str, str, str]]:
    decoder = msgspec.json.Decoder(Row)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ReviewError(f"{path}:{number}: expected a row of a review file: {error}") from error
            yield number, row.pair, row.grade.strip(), row.comment


def _csv(path: Path) -> Iterator[tuple[int, str, str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        columns: list[str] = []
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                break
            except (csv.Error, UnicodeDecodeError) as error:
                raise ReviewError(f"{path}:{line}: expected CSV in UTF-8: {error}") from error
            if not columns:
                columns = _columns(path, cells)
            elif cells and len(cells) != len(columns):
                raise ReviewError(f"{path}:{line}: expected {len(columns)} columns, got {len(cells)}")
            elif cells:
                row = dict(zip(columns, map(unescape, cells), strict=True))
                yield line, row["pair"].strip(), row["grade"].strip(), row["comment"]
    if not columns:
        raise ReviewError(f"{path}:1: expected a line of column names, got an empty file")


def _columns(path: Path, cells: list[str]) -> list[str]:
    for name in ("pair", *_AFTER):
        if cells.count(name) != 1:
            raise ReviewError(
                f"{path}:1: expected one column {name!r}, separated by commas, got {', '.join(cells)[:200]!r}"
            )
    return cells
