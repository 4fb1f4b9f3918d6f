"""Where the parts of a running local stack listen: written by the supervisor, read by every command."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ops.files import write_atomically
from ops.settings import Settings


class Endpoints(msgspec.Struct, frozen=True):
    """Addresses of the local stack. `kafka` is host:port, `dashboard` a base URL without a trailing slash.

    `triton` (gRPC host:port) and `teacher` (.../v1) are where its servers listen once they are ready; empty without.
    """

    kafka: str
    dashboard: str
    triton: str = ""
    teacher: str = ""


class NotRunningError(RuntimeError):
    """An address is needed that only a running stack or a setting can give."""


def path_in(run_dir: Path) -> Path:
    """Return the file that holds the endpoints."""
    return run_dir / "endpoints.json"


def write(run_dir: Path, endpoints: Endpoints) -> None:
    """Record where the stack listens."""
    write_atomically(path_in(run_dir), msgspec.json.encode(endpoints))


def read(run_dir: Path) -> Endpoints | None:
    """Return the recorded endpoints, or None if no stack has run here or the file is damaged."""
    try:
        return msgspec.json.decode(path_in(run_dir).read_bytes(), type=Endpoints)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def kafka_address(settings: Settings) -> str:
    """Return the bootstrap servers: the setting, or those of the local stack. Raises NotRunningError."""
    if settings.kafka:
        return settings.kafka
    endpoints = read(settings.run_dir)
    if endpoints is None:
        raise NotRunningError(
            "no Kafka address: start the local stack with `relevance up`, or set RELEVANCE_KAFKA=host:port"
        )
    return endpoints.kafka


def dashboard_url(settings: Settings) -> str:
    """Return the dashboard's base URL. Raises NotRunningError if no stack has been started here."""
    endpoints = read(settings.run_dir)
    if endpoints is None:
        raise NotRunningError("the dashboard is not running: start the local stack with `relevance up`")
    return endpoints.dashboard
