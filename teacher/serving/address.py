"""Where the teacher answers: the setting, or what the local server has written down."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ops.endpoints import NotRunningError
from ops.files import write_atomically
from ops.settings import Settings


class TeacherAddress(msgspec.Struct, frozen=True):
    """A local server that passed its probe: base URL of the OpenAI-compatible interface, and its vLLM's pid."""

    url: str
    pid: int


def folder_in(run_dir: Path) -> Path:
    """Return where the teacher server of a run directory keeps its lock, log and address."""
    return run_dir.absolute() / "teacher"


def path_in(run_dir: Path) -> Path:
    """Return the file that holds the address."""
    return folder_in(run_dir) / "address.json"


def write(run_dir: Path, address: TeacherAddress) -> None:
    """Record where the local server listens."""
    write_atomically(path_in(run_dir), msgspec.json.encode(address))


def remove(run_dir: Path) -> None:
    """Forget the address, if there is one."""
    path_in(run_dir).unlink(missing_ok=True)


def read(run_dir: Path) -> TeacherAddress | None:
    """Return the recorded address, or None if no server is ready here or the file is damaged."""
    try:
        return msgspec.json.decode(path_in(run_dir).read_bytes(), type=TeacherAddress)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def teacher_urls(settings: Settings) -> list[str]:
    """Return the base URLs, http(s)://host:port/v1: those of the setting, or the local server's.

    Raises NotRunningError if neither is there.
    """
    if settings.teacher_url:
        return [url.strip().rstrip("/") for url in settings.teacher_url.split(",")]
    address = read(settings.run_dir)
    if address is None:
        raise NotRunningError(
            "no teacher: start the local one with `relevance teacher serve` and wait until it says ready,"
            " or set RELEVANCE_TEACHER_URL=http://host:port/v1"
        )
    return [address.url]
