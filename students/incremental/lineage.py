"""The record of an update: what it came from, what it took, what was decided. From these and the topic's log any
version can be made again (`students.incremental.rebuild`).

FOLDER/lineage/NNNNNN.json     one an update, as its checkpoint holds it
FOLDER/published/NNNNNN.json   what became of an update that passed: its version, or why there is none
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ops.files import write_atomically
from students.gate.guards import Alarm
from students.incremental.state import Outcome

LINEAGE, PUBLISHED = "lineage", "published"
T = TypeVar("T", bound=msgspec.Struct)


class LineageError(ValueError):
    """A record of an update is missing or cannot be read. The message says which."""


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """One update.

    `parent` is the update that made the champion it was trained from (0: the first student), `previous` the champion
    before that. `ranges` are half-open intervals of offsets by "topic/partition", `offsets` the next ones of all of
    them; `accepted`: quarantined judgements were taken in before it. `used` and `held_out` are identities, new in
    this update; `fresh` counts what it learned from that its parent had not, `replayed` the rest. `data` and `golden`
    are fingerprints of the lesson and of the golden set, `start` and `weights` those of the parent's weights and its
    own, empty if nothing was learned. `settings` are those it was trained with. `judged_to_trained_s` and
    `sampled_to_trained_s` are means, None where no time was told.
    """

    update: int
    kind: str
    parent: int
    previous: int
    accepted: bool
    ranges: dict[str, tuple[int, int]]
    offsets: dict[str, int]
    used: tuple[str, ...]
    held_out: tuple[str, ...]
    golden_judgements: int
    duplicates: int
    refused: int
    fresh: int
    replayed: int
    seed: int
    settings: dict[str, Any]
    data: str
    golden: str
    start: str
    weights: str
    outcome: Outcome
    why: str
    alarms: tuple[Alarm, ...]
    figures: dict[str, float]
    seconds: float
    judged_to_trained_s: float | None
    sampled_to_trained_s: float | None
    at_ms: int


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an update that passed: `step` is published, exported (no Triton is configured) or refused;
    `version` 0 if there is none."""

    update: int
    version: int
    step: str
    why: str
    at_ms: int


def row_of(lineage: Lineage, published: Published | None) -> dict[str, Any]:
    """Return an update as a row of ClickHouse's table `student_updates`; told again once it is published."""
    return {
        "kind": lineage.kind,
        "update_id": lineage.update,
        "parent_update": lineage.parent,
        "student_version": f"{lineage.kind}-{published.version}" if published and published.version else "",
        "outcome": lineage.outcome,
        "why": f"{lineage.why}; {published.step}: {published.why}" if published else lineage.why,
        "alarms": msgspec.json.encode(lineage.alarms).decode(),
        "figures": msgspec.json.encode(lineage.figures).decode(),
        "ranges": msgspec.json.encode(lineage.ranges).decode(),
        "offsets": msgspec.json.encode(lineage.offsets).decode(),
        "used": lineage.used,
        "held_back": lineage.held_out,
        "judgements": len(lineage.used),
        "held_out": len(lineage.held_out),
        "duplicates": lineage.duplicates,
        "refused": lineage.refused,
        "fresh": lineage.fresh,
        "replayed": lineage.replayed,
        "seconds": lineage.seconds,
        "judged_to_trained_s": lineage.judged_to_trained_s,
        "sampled_to_trained_s": lineage.sampled_to_trained_s,
        "event_time": lineage.at_ms,
        "version": 2 if published else 1,
    }


def path_of(folder: Path, what: str, update: int) -> Path:
    """Return the file of an update."""
    return folder / what / f"{update:06d}.json"


def write(folder: Path, record: Lineage | Published) -> None:
    """Write an update's record, whole or not at all. Raises OSError."""
    what = LINEAGE if isinstance(record, Lineage) else PUBLISHED
    write_atomically(path_of(folder, what, record.update), encoded(record))


def encoded(record: Lineage | Published) -> bytes:
    """Return a record as JSON for people."""
    return msgspec.json.format(msgspec.json.encode(record)) + b"\n"


def lineage_of(folder: Path, update: int) -> Lineage:
    """Return an update's record. Raises LineageError."""
    found = _read(path_of(folder, LINEAGE, update), Lineage)
    if found is None:
        raise LineageError(f"{path_of(folder, LINEAGE, update)}: expected the record of update {update}")
    return found


def records_of(folder: Path) -> list[Lineage]:
    """Return the records of all updates, in order. Raises LineageError."""
    numbers = sorted(int(path.stem) for path in (folder / LINEAGE).glob("??????.json"))
    return [lineage_of(folder, number) for number in numbers]


def published_of(folder: Path, update: int) -> Published | None:
    """Return what became of an update, None if that is not known yet. Raises LineageError."""
    return _read(path_of(folder, PUBLISHED, update), Published)


def update_of(folder: Path, version: int) -> int:
    """Return the update that made a version. Raises LineageError."""
    for path in sorted((folder / PUBLISHED).glob("*.json")):
        found = _read(path, Published)
        if found is not None and found.version == version:
            return found.update
    raise LineageError(f"no update in {folder} made version {version}")


def supersede_after(folder: Path, update: int) -> None:
    """Set aside records of updates later than the one that is gone on from: their checkpoint was lost."""
    for what in (LINEAGE, PUBLISHED):
        for path in (folder / what).glob("*.json"):
            if int(path.stem) > update:
                path.replace(path.with_suffix(f".superseded.{path.stat().st_mtime_ns}"))


def _read(path: Path, of: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=of)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LineageError(f"{path}: expected the record of an update: {error}") from error
