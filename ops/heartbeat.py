"""A part's sign of life: a small file in the run directory, rewritten about once a second.

The supervisor, `relevance status` and the page read it; a part needs no port of its own to be watched.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ops.files import write_atomically


class Heartbeat(msgspec.Struct, frozen=True):
    """`state` is `starting`, `ready` or `stopping`; `detail` one line for people; `counters` since start."""

    part: str
    pid: int
    at_s: float
    state: str
    detail: str
    counters: dict[str, float]


def path_of(run_dir: Path, part: str) -> Path:
    """Return the file of a part, e.g. `streams-1`."""
    return run_dir / "health" / f"{part}.json"


def beat(run_dir: Path, heartbeat: Heartbeat) -> None:
    """Write the heartbeat of a part."""
    write_atomically(path_of(run_dir, heartbeat.part), msgspec.json.encode(heartbeat))


def read(run_dir: Path, part: str) -> Heartbeat | None:
    """Return a part's last heartbeat, or None if it has none that can be read."""
    try:
        return msgspec.json.decode(path_of(run_dir, part).read_bytes(), type=Heartbeat)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def read_all(run_dir: Path) -> list[Heartbeat]:
    """Return every part's last heartbeat, by name."""
    names = sorted(path.stem for path in (run_dir / "health").glob("*.json"))
    return [heartbeat for name in names if (heartbeat := read(run_dir, name))]
