"""A server in a process group of its own, which ends with us and is found again should it outlive that."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ops.files import write_atomically
from ops.servers import processes
from ops.stack import logs
from ops.stack.lifeline import PARENT_VARIABLE

STOPS_WITHIN_S = 8.0


class ServerProcess:
    """The server of one folder. Its log is `logs/NAME.log` there, its process group is noted in `NAME.pid`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str,
        folder: Path,
        environment: Mapping[str, str],
        working_directory: Path,
        clean: Callable[[], object] = lambda: None,
    ) -> None:
        """`clean` removes what it leaves behind, each time that it has ended."""
        self.log = logs.path_of(folder, name)
        self._group_file = group_file(folder, name)
        self._command = command
        self._environment = {**environment, PARENT_VARIABLE: str(os.getpid())}
        self._working_directory = working_directory
        self._clean = clean
        self._process: subprocess.Popen[bytes] | None = None
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")

    def start(self) -> int:
        """Start it and return its pid. Call it from the main thread: it ends with the thread that started it."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ops.servers.launch", *self._command],
                cwd=self._working_directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        write_atomically(self._group_file, str(self._process.pid).encode())
        return self._process.pid

    def status(self) -> int | None:
        """Return its exit status, or None while it runs."""
        return self._process.poll() if self._process else 0

    def end(self, *, within_s: float = STOPS_WITHIN_S) -> None:
        """End it and its children: itself by SIGTERM, and what is left after `within_s` by SIGKILL."""
        if self._process is None:
            return
        left = processes.regions(self._process.pid)
        # It ends its children by itself if only the server is told.
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=within_s)
        processes.end_group(self._process.pid, within_s=0)
        self._process.wait()
        processes.remove(left)
        self._process = None
        self._clean()
        self._group_file.unlink(missing_ok=True)


def group_file(folder: Path, name: str) -> Path:
    """Return the file that holds the process group of a folder's server."""
    return folder / f"{name}.pid"


def end_leftover(folder: Path, name: str, *, word: str, within_s: float = STOPS_WITHIN_S) -> list[int]:
    """End the server that an earlier run of this folder has left, and return the pids that there were.

    `word` stands in the command lines of all its processes: the number may meanwhile be another program's.
    """
    try:
        group = int(group_file(folder, name).read_text())
    except (FileNotFoundError, ValueError):
        return []
    if not processes.named(group, word):
        return []
    ended = processes.members(group)
    processes.end_group(group, within_s=within_s)
    return ended
