"""One stack per run directory: a lock file that the kernel frees when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType


class AlreadyRunningError(RuntimeError):
    """A stack runs in this run directory already."""


def path_in(run_dir: Path) -> Path:
    """Return the lock file; it holds the pid of `relevance up`."""
    return run_dir / "stack.lock"


class RunLock:
    """A context manager that holds the lock of a run directory. Raises AlreadyRunningError on entry."""

    def __init__(self, run_dir: Path) -> None:
        self._path = path_in(run_dir)
        self._descriptor = -1

    def __enter__(self) -> RunLock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise AlreadyRunningError(
                    f"a stack already runs in {self._path.parent} (pid {holder(self._path.parent)}):"
                    " stop it with `relevance down`, or give this one another --run-dir"
                ) from None
            # The former holder may have removed the file between our open and our lock.
            if _same_file(descriptor, self._path):
                break
            os.close(descriptor)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def holder(run_dir: Path) -> int | None:
    """Return the pid of the `relevance up` that runs in `run_dir`, or None if there is none."""
    try:
        descriptor = os.open(path_in(run_dir), os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 32)
        return int(text) if text.isdigit() else 0
    else:
        return None
    finally:
        os.close(descriptor)


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
