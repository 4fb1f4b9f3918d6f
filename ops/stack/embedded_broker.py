"""The embedded broker: noida-db, one binary that speaks Kafka's protocol. For a laptop and for tests.

It keeps everything in memory and saves it about once a second, so a SIGKILL of the broker itself may lose the
last second. `ops.stack.broker_guard` runs it so that SIGTERM loses nothing.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path


class BrokerSetupError(RuntimeError):
    """The broker can't be started as things are; the message says what to mend."""


def binary() -> Path:
    """Return the broker's executable. Raises BrokerSetupError if the package is not installed."""
    spec = importlib.util.find_spec("noida_db")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "noida-db"
        if path.is_file() and os.access(path, os.X_OK):
            return path
    raise BrokerSetupError(
        "the embedded broker is not installed: run `make setup` (or `pip install noida-db`), or point"
        " RELEVANCE_KAFKA at a broker, or use `relevance up --broker apache`"
    )


def command(*, port: int, data_dir: Path) -> list[str]:
    """Return the command that serves Kafka's protocol on 127.0.0.1:`port` with its state under `data_dir`."""
    return [str(binary()), "start", "--only", "kafka", "--kafka-port", str(port), "--data-dir", str(data_dir)]
