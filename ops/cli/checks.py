"""The finding of one check of `relevance doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """OK, a NOTE that needs no action, or BROKEN."""

    OK = "ok"
    NOTE = "note"
    BROKEN = "BROKEN"


@dataclass(frozen=True, slots=True)
class Check:
    """What was checked, what was found, and what to do about it."""

    name: str
    level: Level
    detail: str
    mend: str = ""

    @classmethod
    def ok(cls, name: str, detail: str) -> Check:
        """Return a finding that all is well."""
        return cls(name, Level.OK, detail)

    @classmethod
    def note(cls, name: str, detail: str, mend: str) -> Check:
        """Return a finding that is worth knowing."""
        return cls(name, Level.NOTE, detail, mend)

    @classmethod
    def broken(cls, name: str, detail: str, mend: str) -> Check:
        """Return a finding that stops the project from working."""
        return cls(name, Level.BROKEN, detail, mend)
