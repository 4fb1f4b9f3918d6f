"""The pairs to annotate, as a file gives them, with the grade that a person gave where one is known."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from streams.item_text import MAX_TITLE_CHARS, clean, content_hash, query_text


class PairsError(ValueError):
    """A file of pairs cannot be read. The message names file, line and what was expected."""


class PairToAnnotate(msgspec.Struct, frozen=True, kw_only=True):
    """A pair in cleaned texts (`streams.item_text`). `person_grade` is a label of the policy, None if unknown."""

    query: str
    item_id: str
    item_text: str
    source: str
    person_grade: str | None

    @property
    def key(self) -> str:
        """Return the name of (query, item, content hash): `p-` and 16 hexadecimal digits.

        The prefix keeps spreadsheets from reading digits with an e among them as a number.
        """
        parts = (self.query, self.item_id, content_hash(self.item_text))
        named = msgspec.json.encode(parts)
        return "p-" + hashlib.blake2b(named, digest_size=8).hexdigest()


class Pairs(msgspec.Struct, frozen=True):
    """What a file holds: each pair once, and how many lines repeated an earlier one."""

    pairs: tuple[PairToAnnotate, ...]
    duplicates: int


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    # The last two let a file of `teacher.examples` be annotated as it is; neither is read.
    query: str
    item_id: str
    item_text: str
    grade: str = ""
    source: str = ""
    writer: str = ""
    chain: tuple[Any, ...] = ()


def read(path: Path, *, labels: Sequence[str], grades_known: bool = True) -> Pairs:
    """Read JSON lines with `query`, `item_id`, `item_text` and, where known, a person's `grade` and a `source`.

    With `grades_known` false the grades in the file are not looked at. Raises PairsError for a missing file, a
    line that is no such object, an empty text, a grade that is not one of `labels`, a pair that comes again with
    another grade, and a file without pairs.
    """
    decoder = msgspec.json.Decoder(_Line)
    found: dict[str, tuple[int, PairToAnnotate]] = {}
    duplicates = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    pair = _pair(decoder.decode(line), labels, grades_known=grades_known)
                except (msgspec.DecodeError, UnicodeDecodeError, PairsError) as error:
                    raise PairsError(f"{path}:{number}: {error}") from error
                first, known = found.setdefault(pair.key, (number, pair))
                duplicates += first != number
                if known.person_grade != pair.person_grade:
                    raise PairsError(
                        f"{path}:{number}: the pair of line {first} comes again with grade {pair.person_grade!r}"
                        f" instead of {known.person_grade!r}: keep one of the two lines"
                    )
    except OSError as error:
        raise PairsError(f"{path}: {error}") from error
    if not found:
        raise PairsError(f"{path}: expected at least one pair, got none")
    return Pairs(tuple(pair for _, pair in found.values()), duplicates)


def _pair(line: _Line, labels: Sequence[str], *, grades_known: bool) -> PairToAnnotate:
    grade = line.grade if grades_known else ""
    if grade and grade not in labels:
        raise PairsError(f"expected a grade of {', '.join(labels)}, or none, got {grade!r}")
    query = query_text(line.query)
    rows = (clean(row, max_chars=MAX_TITLE_CHARS) for row in line.item_text.split("\n"))
    text = "\n".join(filter(None, rows))
    for name, value in (("query", query), ("item_id", line.item_id), ("item_text", text)):
        if not value:
            raise PairsError(f"expected {name} not to be empty")
    return PairToAnnotate(
        query=query, item_id=line.item_id, item_text=text, source=line.source, person_grade=grade or None
    )
