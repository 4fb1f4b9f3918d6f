"""A trainer in a process of its own, so that a test can kill it or take its disk away.

Arguments: bootstrap address, run directory, first student, golden set, and the largest file in bytes (0: any).
"""

from __future__ import annotations

import logging
import resource
import sys
import threading
from pathlib import Path

from ops.settings import Settings
from students.export.fidelity import FidelityLimits
from students.incremental.progress import Progress
from students.incremental.trainer import run_trainer
from tests.students.incremental.samples import tiny_trainer

#: A tiny student's scores are close to each other, so their order under int8 says nothing.
LOOSE = FidelityLimits(mean_error=1, largest_error=1, rank_correlation=-1)


def settings_of(bootstrap: str, run_dir: Path, first: Path, golden: Path) -> Settings:
    """Return settings of small updates, so that a kill falls into one."""
    made = tiny_trainer(run_dir, first, golden, update_judgements=48, least_judgements=1, checkpoints=4)
    return made.model_copy(update={"kafka": bootstrap})


def main() -> None:
    """Run until killed; print what is being done whenever it changes."""
    bootstrap, run_dir, first, golden, largest = sys.argv[1:]
    logging.basicConfig(level=logging.ERROR, stream=sys.stdout)
    if int(largest):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest), int(largest)))
    last = ""

    def show(progress: Progress) -> None:
        nonlocal last
        if progress.detail != last:
            last = progress.detail
            print(last, flush=True)

    run_trainer(
        settings_of(bootstrap, Path(run_dir), Path(first), Path(golden)),
        bootstrap,
        stop=threading.Event(),
        on_progress=show,
        fidelity=LOOSE,
    )


if __name__ == "__main__":
    main()
