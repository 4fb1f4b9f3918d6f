"""The virtual environment that Triton serves from: the real server out of a wheel, onnxruntime, tokenizers; 340 MB.

It is one of its own because the server's Python side needs numpy 1, while everything else here uses numpy 2: with the
latter it would silently read zeros.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from ops.servers.steps import ROOT, PreparationError, locked, run_step
from ops.settings import TritonServer

SCRIPT = ROOT / "ops" / "requirements" / "serving.sh"
LOCK = ROOT / ".cache" / "serving" / "environment.lock"


def ensure_environment(
    settings: TritonServer, *, say: Callable[[str], None], stop: threading.Event | None = None
) -> Path:
    """Return the environment's interpreter, making or updating the environment first if need be.

    Raises PreparationError if it cannot be made, StoppedError if `stop` is set meanwhile.
    """
    folder = folder_of(settings)
    with locked(LOCK, say=say, what=str(folder), stop=stop) as lock:
        run_step(
            ["bash", str(SCRIPT), str(folder)],
            environment=os.environ | {"PYTHON": sys.executable},
            what=f"the environment {folder}",
            mend="mend what pip says and run the same command again, it goes on from there",
            stop=stop,
            lock=lock,
        )
    return folder / "bin" / "python"


def made_environment(settings: TritonServer) -> Path:
    """Return the environment's interpreter. Raises PreparationError if there is none."""
    python = folder_of(settings) / "bin" / "python"
    if not python.exists():
        raise PreparationError(
            f"there is no environment {folder_of(settings)}: `relevance serve --prepare` makes it"
        )
    return python


def folder_of(settings: TritonServer) -> Path:
    """Return the environment's folder, absolute; relative ones are below the project's."""
    return ROOT / settings.environment.expanduser()
