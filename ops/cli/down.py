"""`relevance down`: stop the stack of a run directory from another terminal."""

from __future__ import annotations

import os
import signal
import time

import click

from ops.cli.context import CommandError, Context, pass_context
from ops.stack import leftovers, run_lock

WAIT_S = 15.0


@click.command(epilog="\b\nExamples:\n  relevance down\n  relevance --run-dir /var/lib/relevance down")
@pass_context
def down(context: Context) -> None:
    """Stop the stack that runs in the run directory, and what an earlier one left behind."""
    run_dir = context.settings().run_dir
    began_s = time.monotonic()
    pid = run_lock.holder(run_dir)
    if pid:
        os.kill(pid, signal.SIGTERM)
        while run_lock.holder(run_dir) == pid:
            if time.monotonic() - began_s > WAIT_S:
                raise CommandError(
                    f"pid {pid} has not stopped within {WAIT_S:g} s: end it with `kill -9 {pid}`"
                )
            time.sleep(0.1)
    ended = leftovers.end(run_dir, within_s=3.0)
    if pid:
        context.console.print(f"stopped pid {pid} in {time.monotonic() - began_s:.1f} s")
    elif ended:
        context.console.print(f"no stack was running; ended {len(ended)} process(es) that it had left behind")
    else:
        context.console.print(f"no stack runs in {run_dir}")
