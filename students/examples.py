"""What a student learns from: the teacher's judgements, and pairs that people graded.

A judgement brings a grade, the distribution of the grades and the evidence of its chain of thought; a person's
grade comes alone. What an example lacks is None, and the losses that need it pass over the example.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from streams.item_text import content_hash, query_text
from streams.records import Judgement, SubtaskVerdict
from students.grades import GradeError, GradeScale

VERDICTS = ("match", "mismatch", "unstated")


class ExampleError(ValueError):
    """A record cannot be learned from. The message says what was expected, what came, and where."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """A half-open interval of characters and what the chain found there: `side` is query or item, `verdict` match
    or mismatch."""

    side: str
    begin: int
    end: int
    verdict: str


class TrainingExample(msgspec.Struct, frozen=True, kw_only=True):
    """A pair in cleaned texts. `distribution` is in the scale's order; both it and `evidence` are None for none."""

    query: str
    item_id: str
    item_text: str
    grade: str
    distribution: tuple[float, ...] | None = None
    evidence: tuple[Evidence, ...] | None = None


class LabelledPair(msgspec.Struct, frozen=True, kw_only=True):
    """A pair that a person graded, as a JSON line; further fields are passed over. `traffic_class` is head, torso
    or tail, empty where there is no traffic."""

    query: str
    item_id: str
    item_text: str
    grade: str
    traffic_class: str = ""


def from_judgement(judgement: Judgement, scale: GradeScale) -> TrainingExample:
    """Return a judgement as an example; spans are checked when they meet the text's tokens.

    Raises ExampleError for texts that `streams.item_text` did not make, another item text than was judged, a grade
    or distribution that does not fit the scale, an unknown verdict.
    """
    _check_texts(judgement.query, judgement.item_text)
    if (found := content_hash(judgement.item_text)) != judgement.content_hash:
        raise ExampleError(f"expected the item text that was judged, {judgement.content_hash}, got {found}")
    try:
        scale.position(judgement.grade)
        distribution = scale.distribution(judgement.grades)
    except GradeError as error:
        raise ExampleError(str(error)) from error
    evidence = [found for verdict in judgement.verdicts for found in _evidence(verdict)]
    return TrainingExample(
        query=judgement.query,
        item_id=judgement.item_id,
        item_text=judgement.item_text,
        grade=judgement.grade,
        distribution=distribution,
        # The teacher may have been asked for the grade alone.
        evidence=tuple(evidence) if judgement.verdicts else None,
    )


def from_label(pair: LabelledPair, scale: GradeScale) -> TrainingExample:
    """Return a person's grade as an example. The query is cleaned here. Raises ExampleError as `from_judgement`."""
    query = query_text(pair.query)
    _check_texts(query, pair.item_text)
    try:
        scale.position(pair.grade)
    except GradeError as error:
        raise ExampleError(str(error)) from error
    return TrainingExample(query=query, item_id=pair.item_id, item_text=pair.item_text, grade=pair.grade)


def read(path: Path, scale: GradeScale) -> Iterator[TrainingExample]:
    """Yield the examples of a file of JSON lines: judgements, graded pairs, or both.

    Raises ExampleError that names file and line for one that is neither or cannot be learned from; OSError.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield _decoded(line, scale)
            except (ExampleError, msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ExampleError(f"{path}:{number}: {error}") from error


def read_labelled(path: Path, scale: GradeScale) -> list[LabelledPair]:
    """Read graded pairs from JSON lines and clean their queries. Raises ExampleError as `read` does; OSError."""
    found = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                pair = msgspec.json.decode(line, type=LabelledPair)
                query = from_label(pair, scale).query
            except (ExampleError, msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ExampleError(f"{path}:{number}: {error}") from error
            found.append(msgspec.structs.replace(pair, query=query))
    return found


def stripped(
    examples: Sequence[TrainingExample], *, distribution: bool, chain: bool
) -> list[TrainingExample]:
    """Return the examples with only the named streams beside the grade, to tell what each is worth."""
    return [
        msgspec.structs.replace(
            each,
            distribution=each.distribution if distribution else None,
            evidence=each.evidence if chain else None,
        )
        for each in examples
    ]


def fingerprint(examples: Sequence[TrainingExample]) -> str:
    """Return what names these examples in this order: 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for each in examples:
        digest.update(msgspec.json.encode(each) + b"\n")
    return digest.hexdigest()


def _decoded(line: bytes, scale: GradeScale) -> TrainingExample:
    record: Any = msgspec.json.decode(line)
    if not isinstance(record, dict):
        raise ExampleError(
            f"expected a judgement or a graded pair as JSON object, got {type(record).__name__}"
        )
    if "grades" in record:
        return from_judgement(msgspec.convert(record, Judgement), scale)
    return from_label(msgspec.convert(record, LabelledPair), scale)


def _evidence(verdict: SubtaskVerdict) -> list[Evidence]:
    if verdict.verdict not in VERDICTS:
        raise ExampleError(f"expected a verdict among {', '.join(VERDICTS)}, got {verdict.verdict!r}")
    if verdict.verdict == "unstated":
        return []
    return [
        Evidence(side=side, begin=span[0], end=span[1], verdict=verdict.verdict)
        for side, span in (("query", verdict.query_span), ("item", verdict.item_span))
        if span is not None
    ]


def _check_texts(query: str, item_text: str) -> None:
    if not query:
        raise ExampleError("expected a query, got nothing that can be read")
    if not item_text.strip():
        raise ExampleError("expected an item text, got nothing")
    if query_text(query) != query:
        raise ExampleError(f"expected a query cleaned by streams.item_text, got {query[:80]!r}")
    for char in item_text:
        if char != "\n" and unicodedata.category(char)[0] == "C":
            raise ExampleError(f"expected an item text made by streams.item_text, it holds {char!r}")
