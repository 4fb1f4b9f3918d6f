"""The loop that keeps a server running: started, offered once it is ready, watched, started again when it fails."""

from __future__ import annotations

import contextlib
import ipaddress
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ops.servers.server_process import STOPS_WITHIN_S, ServerProcess
from ops.servers.steps import StoppedError
from ops.servers.voice import Voice
from ops.stack import logs, run_lock

#: So many starts in a row that do not get ready will not get better.
STARTS_TO_GIVE_UP = 3
TAIL_LINES = 15


class ServerError(RuntimeError):
    """A server cannot be started. The message holds the reason, the end of its log, and what to do."""


def is_loopback(host: str) -> bool:
    """Tell whether a server on `host` is reached from this machine alone.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def only_one(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a server's folder. Raises ServerError if another process does."""
    try:
        lock = run_lock.RunLock(folder)
        lock.__enter__()
    except run_lock.AlreadyRunningError:
        raise ServerError(
            f"a {what} already runs in {folder} (pid {run_lock.holder(folder)}): stop it with Ctrl-C there,"
            " or give this one another --run-dir"
        ) from None
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def keep_running(
    process: ServerProcess,
    *,
    name: str,
    start: Callable[[], int],
    offer: Callable[[int], None],
    watch: Callable[[int, int], str],
    withdraw: Callable[[], None],
    stop: threading.Event,
    voice: Voice,
    stops_within_s: float = STOPS_WITHIN_S,
) -> None:
    """Keep a server running until `stop` is set; then it is `withdraw`n and ended.

    `start` starts it and returns its pid once it is ready, or raises ServerError. `offer` takes the pid and tells
    clients. `watch` takes pid and restarts so far, and returns what is wrong as soon as something is that only a
    restart mends, or nothing when asked to stop.

    Raises ServerError if it never gets ready, or not in several starts in a row, and what `start` raises otherwise.
    """
    failed, was_ready, restarts = 0, False, 0
    try:
        while not stop.is_set():
            try:
                pid = start()
            except ServerError as error:
                process.end(within_s=stops_within_s)
                failed += 1
                if not was_ready or failed == STARTS_TO_GIVE_UP:
                    raise
                voice.say(f"start {failed} of {STARTS_TO_GIVE_UP} failed: {str(error).splitlines()[0]}")
                continue
            failed, was_ready = 0, True
            offer(pid)
            reason = watch(pid, restarts)
            if reason:
                restarts += 1
                withdraw()
                voice.say(f"{name} {reason}; it is started again, its log is {process.log}")
                process.end(within_s=stops_within_s)
    finally:
        withdraw()
        process.end(within_s=stops_within_s)


def wait_until_it_answers(
    process: ServerProcess,
    answers: Callable[[], bool],
    *,
    name: str,
    within_s: float,
    setting: str,
    every_s: float,
    stop: threading.Event,
    waiting: Callable[[float], None],
) -> float:
    """Return the seconds that a started server took to answer; `waiting` is told of those that have passed.

    Raises ServerError if it ends or takes longer than `within_s`, which is the value of `setting`; StoppedError.
    """
    began_s = time.monotonic()
    while not answers():
        passed_s = time.monotonic() - began_s
        if (status := process.status()) is not None:
            raise failure(process, f"{name} ended with status {status} after {passed_s:.0f} s")
        if passed_s > within_s:
            raise failure(process, f"{name} did not answer within {within_s:g} s ({setting})")
        waiting(passed_s)
        if stop.wait(every_s):
            raise StoppedError(f"stopped while {name} was starting")
    return time.monotonic() - began_s


def failure(process: ServerProcess, what: str) -> ServerError:
    """Return the error that says `what`, with the end of the server's log."""
    quoted = "\n".join(f"  {line}" for line in logs.tail(process.log, TAIL_LINES))
    return ServerError(f"{what}; the end of {process.log}:\n{quoted}")
