"""The processes that run Python models, found in /proc (Linux), and the shared memory they leave behind when killed.

A stub that has died is not noticed by the server: it goes on saying that the model is ready, and every request fails.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
SHARED_MEMORY = Path("/dev/shm")
STUB = "triton_python_backend_stub"


@dataclass(frozen=True, slots=True)
class Stub:
    """A process that serves one version of a model."""

    pid: int
    model: str
    version: int


def running(server_pid: int) -> list[Stub]:
    """Return the stubs of a server; those that have ended and wait to be reaped are left out."""
    found = []
    for folder in PROC.glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) != server_pid or state == "Z":
                continue
            arguments = (folder / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            # It has ended meanwhile.
            continue
        if len(arguments) > 1 and Path(arguments[0]).name == STUB:
            path = Path(arguments[1])
            found.append(Stub(int(folder.name), path.parent.parent.name, int(path.parent.name)))
    return sorted(found, key=lambda stub: stub.pid)


def region_prefix(run_dir: Path) -> str:
    """Return how the names of a run directory's shared memory regions begin."""
    digest = hashlib.sha256(os.fsencode(run_dir.absolute())).hexdigest()[:12]
    return f"relevance_{digest}_"


def remove_regions(prefix: str, *, folder: Path = SHARED_MEMORY) -> int:
    """Remove the regions that killed processes have left, and return how many there were."""
    left = list(folder.glob(f"{prefix}*"))
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)
