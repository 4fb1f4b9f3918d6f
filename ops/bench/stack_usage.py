"""Memory and processor time of a stack that runs, by part.

    relevance demo &                                  # in one terminal
    python -m ops.bench.stack_usage [--seconds 300]   # in another, with the same run directory

Every process below the supervisor counts for the part that began it. Memory is resident, pages that several
processes share divided among them; the processor's share is of all cores, over the whole time.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import click

from ops import heartbeat
from ops.bench.machine import announce
from ops.cli.context import Context
from ops.servers.processes import PROC, shared_mb
from ops.settings import load
from ops.stack import run_lock

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SUPERVISOR = "supervisor"


@dataclass(frozen=True, slots=True)
class Process:
    """A process as /proc tells of it: its parent, its processor time in ticks, its share of resident memory in MB."""

    parent: int
    ticks: int
    memory_mb: float


def processes() -> dict[int, Process]:
    """Return the processes that can be read, by pid."""
    found = {}
    for folder in PROC.glob("[0-9]*"):
        # One may end while it is read.
        with contextlib.suppress(OSError, IndexError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            pid, ticks = int(folder.name), int(fields[11]) + int(fields[12])
            found[pid] = Process(int(fields[1]), ticks, shared_mb(pid))
    return found


def parts_of(running: Mapping[int, Process], supervisor: int, names: Mapping[int, str]) -> dict[int, str]:
    """Return each process's part below a supervisor: that of the nearest process above which has a name.

    >>> tree = {1: Process(0, 0, 0), 2: Process(1, 0, 0), 3: Process(2, 0, 0), 4: Process(1, 0, 0)}
    >>> parts_of(tree, 1, {2: "triton"})
    {1: 'supervisor', 2: 'triton', 3: 'triton', 4: 'supervisor'}
    """
    found = {}
    for pid in running:
        at = pid
        while at in running and at != supervisor and at not in names:
            at = running[at].parent
        if at == supervisor or (at in names and _below(running, at, supervisor)):
            found[pid] = SUPERVISOR if at == supervisor else names[at]
    return found


@click.command(help=__doc__)
@click.option("--seconds", default=300.0, show_default=True, type=click.FloatRange(1))
@click.option("--every", default=5.0, show_default=True, type=click.FloatRange(0.1))
def main(*, seconds: float, every: float) -> None:
    """Watch and print."""
    announce("ops.bench.stack_usage")
    run_dir = load().run_dir
    supervisor = run_lock.holder(run_dir)
    if supervisor is None:
        raise click.ClickException(f"no stack runs in {run_dir}: start `relevance demo` or `relevance up`")
    memory: dict[str, list[float]] = defaultdict(list)
    used: dict[str, int] = defaultdict(int)
    last: dict[int, int] = {}
    began_s = time.monotonic()
    while True:
        running = processes()
        names = {sign.pid: sign.part for sign in heartbeat.read_all(run_dir) if sign.pid != supervisor}
        now: dict[str, float] = defaultdict(float)
        for pid, part in parts_of(running, supervisor, names).items():
            now[part] += running[pid].memory_mb
            # What a process used before it was first seen is not of this time.
            used[part] += running[pid].ticks - last.get(pid, running[pid].ticks)
            last[pid] = running[pid].ticks
        for part, megabytes in now.items():
            memory[part].append(megabytes)
        memory["all"].append(sum(now.values()))
        if time.monotonic() - began_s >= seconds or run_lock.holder(run_dir) != supervisor:
            break
        time.sleep(every)
    took_s = time.monotonic() - began_s
    used["all"] = sum(used.values())
    cores = os.cpu_count() or 1
    click.echo(f"{len(memory['all'])} looks in {took_s:.0f} s")
    Context().table(
        ["part", "memory MB, median", "most", "share of all cores"],
        [
            (
                part,
                f"{statistics.median(memory[part]):,.0f}",
                f"{max(memory[part]):,.0f}",
                f"{used[part] / TICKS_PER_S / took_s / cores:.1%}" if took_s else "",
            )
            for part in sorted(memory, key=lambda name: (name == "all", -statistics.median(memory[name])))
        ],
    )


def _below(running: Mapping[int, Process], pid: int, supervisor: int) -> bool:
    while pid in running and pid != supervisor:
        pid = running[pid].parent
    return pid == supervisor


if __name__ == "__main__":
    main()
