"""Judged pairs with the chain that leads to the grade: what fine-tuning learns from and evaluation compares with.

A file of them is JSON lines, one `Example` a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from ops.files import write_atomically
from teacher.policy import Verdict
from teacher.prompt import NOTHING, fence


class ExampleError(ValueError):
    """A file of examples cannot be read. The message names file, line and what was expected."""


class ChainLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One subtask's finding. The words are quoted as they stand in query and item text, empty for none."""

    subtask: str
    query_words: str
    item_words: str
    verdict: Verdict


class Example(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pair, its grade's label and the chain; `source` says where the pair is from and `writer` who wrote the
    chain (`program`, `person`, or a teacher's id). `query` and `item_text` are cleaned: `streams.item_text`."""

    query: str
    item_id: str
    item_text: str
    grade: str
    source: str
    writer: str = "program"
    chain: tuple[ChainLine, ...] = ()


def answer(chain: Sequence[ChainLine], grade: str) -> str:
    """Return the answer in the form that the prompt asks for.

    >>> answer([ChainLine(subtask="brand", query_words="nova", item_words="", verdict=Verdict.UNSTATED)], "S")
    'nova | brand | - | unstated\\ngrade: S'
    """
    lines = [
        f"{fence(line.query_words) or NOTHING} | {line.subtask} | {fence(line.item_words) or NOTHING} "
        f"| {line.verdict}"
        for line in chain
    ]
    return "\n".join([*lines, f"grade: {grade}"])


def save(path: Path, examples: Iterable[Example]) -> None:
    """Write a file of examples, whole or not at all."""
    write_atomically(path, msgspec.json.Encoder().encode_lines(list(examples)))


def read(path: Path) -> Iterator[Example]:
    """Yield the examples of a file. Raises ExampleError for a missing file or a line that is none."""
    decoder = msgspec.json.Decoder(Example)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield decoder.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise ExampleError(f"{path}:{number}: expected an example as JSON: {error}") from error
    except OSError as error:
        raise ExampleError(f"{path}: {error}") from error
