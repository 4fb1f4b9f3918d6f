"""Where Triton listens: the setting, or what the local server has written down."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ops import endpoints
from ops.endpoints import NotRunningError
from ops.files import write_atomically
from ops.settings import Settings


class TritonAddress(msgspec.Struct, frozen=True):
    """A local server that is ready: gRPC host:port, the URL of its metrics, and its pid."""

    grpc: str
    metrics: str
    pid: int


def folder_in(run_dir: Path) -> Path:
    """Return where the server of a run directory keeps its lock, log, address and backends."""
    return run_dir.absolute() / "triton"


def path_in(run_dir: Path) -> Path:
    """Return the file that holds the address."""
    return folder_in(run_dir) / "address.json"


def write(run_dir: Path, address: TritonAddress) -> None:
    """Record where the local server listens."""
    write_atomically(path_in(run_dir), msgspec.json.encode(address))


def remove(run_dir: Path) -> None:
    """Forget the address, if there is one."""
    path_in(run_dir).unlink(missing_ok=True)


def read(run_dir: Path) -> TritonAddress | None:
    """Return the recorded address, or None if no server is ready here or the file is damaged."""
    try:
        return msgspec.json.decode(path_in(run_dir).read_bytes(), type=TritonAddress)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def grpc_address(settings: Settings) -> str:
    """Return host:port: that of the setting, or the local server's, also while the stack starts its own again.

    Raises NotRunningError if there is none.
    """
    if settings.triton:
        return settings.triton
    if address := read(settings.run_dir):
        return address.grpc
    if (stack := endpoints.read(settings.run_dir)) and stack.triton:
        return stack.triton
    raise NotRunningError(
        "no Triton: start the local one with `relevance serve` and wait until it says ready,"
        " or set RELEVANCE_TRITON=host:port"
    )
