"""The servers among the parts, Triton and vLLM: prepared before the stack starts, ended should they outlive it.

A server has a process group of its own, which a part that is killed can't end any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from ops.serving import address as triton_address
from ops.serving.leftovers import end_leftovers as end_triton
from ops.settings import Settings
from ops.stack import plan, run_lock
from teacher.serving import address as teacher_address
from teacher.serving.leftovers import end_leftovers as end_teacher

#: What a server gets to end by itself; what holds no state loses nothing by being killed.
STOPS_WITHIN_S = 1.5


def prepare(settings: Settings, *, stop: threading.Event, say: Callable[[str], None]) -> None:
    """Make what the servers of the plan need and what is missing of it: environments and weights.

    Raises ServerError if one would be open to the network, PreparationError, StoppedError.
    """
    # Most commands need neither, and they take seconds to import.
    if plan.has_triton(settings):
        from ops.serving import server as triton
        from ops.serving.environment import ensure_environment

        triton.refuse_open_door(settings)
        ensure_environment(settings.triton_server, say=say, stop=stop)
    if plan.has_teacher_server(settings):
        from teacher.serving import server as teacher

        teacher.refuse_open_door(settings)
        teacher.prepare(settings, stop=stop, say=say)


def holders(settings: Settings) -> dict[str, int]:
    """Return the pids of programs beside the stack that keep a server of the plan running in this run directory."""
    folders = {}
    if plan.has_triton(settings):
        folders[plan.TRITON] = triton_address.folder_in(settings.run_dir)
    if plan.has_teacher_server(settings):
        folders[plan.TEACHER_SERVER] = teacher_address.folder_in(settings.run_dir)
    found = {name: run_lock.holder(folder) for name, folder in folders.items()}
    return {name: pid for name, pid in found.items() if pid is not None}


def end_leftovers(run_dir: Path, *, within_s: float) -> list[int]:
    """End the servers of a run directory that nobody watches any more, and return the pids that there were."""
    ended = []
    if run_lock.holder(triton_address.folder_in(run_dir)) is None:
        ended += end_triton(run_dir, within_s=within_s)
    if run_lock.holder(teacher_address.folder_in(run_dir)) is None:
        ended += end_teacher(run_dir, within_s=within_s)
    return ended
