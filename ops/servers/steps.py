"""Long preparations in processes of their own: one at a time, ended whole, leaving no half results in use."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ops.servers.processes import end_group
from ops.stack.lifeline import PARENT_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.2
ENDS_WITHIN_S = 5.0


class PreparationError(RuntimeError):
    """Environment or weights cannot be had. The message says what was expected and what to do."""


class StoppedError(RuntimeError):
    """A preparation or start was told to stop before it was done."""


@contextlib.contextmanager
def locked(
    path: Path, *, say: Callable[[str], None], what: str, stop: threading.Event | None = None
) -> Iterator[int]:
    """Hold the lock file `path`, waiting for another process that does; yield its descriptor.

    The kernel frees it when we end, and every step that was given the descriptor. Raises StoppedError if `stop` is
    set meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    stop = stop or threading.Event()
    with path.open("wb") as file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    say(f"waiting for another process that makes {what}")
                    told = True
            if stop.wait(POLL_S):
                raise StoppedError(f"stopped while waiting for {what}")
        yield file.fileno()


def run_step(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    what: str,
    mend: str,
    stop: threading.Event | None = None,
    lock: int | None = None,
) -> None:
    """Run a command to its end, its output to ours. Whatever interrupts it ends it and all its children.

    If we are killed it gets SIGTERM; should a child of it outlive that, then nobody else gets `lock`, the
    descriptor of `locked`, until that has ended too.

    Raises StoppedError if `stop` is set meanwhile, PreparationError if it fails: `mend` says what to do then.
    """
    stop = stop or threading.Event()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "ops.servers.launch",
            shutil.which(command[0]) or command[0],
            *command[1:],
        ],
        cwd=ROOT,
        env={**environment, PARENT_VARIABLE: str(os.getpid())},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=() if lock is None else (lock,),
    )
    try:
        while (status := process.poll()) is None:
            if stop.wait(POLL_S):
                raise StoppedError(f"stopped while making {what}")
    except BaseException:
        end_group(process.pid, within_s=ENDS_WITHIN_S)
        process.wait()
        raise
    if status != 0:
        raise PreparationError(f"{what} could not be made (exit status {status}, see above): {mend}")
