"""The golden set: pairs that people graded. No judgement of its queries is ever learned from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from students.examples import ExampleError, LabelledPair, from_label, read_labelled
from students.examples import fingerprint as fingerprint_of
from students.grades import GradeScale


@dataclass(frozen=True)
class Golden:
    """`pairs` in cleaned texts, and the set's fingerprint."""

    pairs: tuple[LabelledPair, ...]
    fingerprint: str

    @cached_property
    def queries(self) -> frozenset[str]:
        """Return the queries."""
        return frozenset(pair.query for pair in self.pairs)

    @cached_property
    def people(self) -> dict[tuple[str, str], str]:
        """Return people's grades by (query, item text)."""
        return {(pair.query, pair.item_text): pair.grade for pair in self.pairs}


def read_golden(path: Path, scale: GradeScale) -> Golden:
    """Read the set from JSON lines. Raises ExampleError for a line that is none and for an empty set; OSError."""
    pairs = read_labelled(path, scale)
    if not pairs:
        raise ExampleError(f"{path}: expected pairs graded by people, got none")
    return Golden(pairs=tuple(pairs), fingerprint=fingerprint_of([from_label(pair, scale) for pair in pairs]))
