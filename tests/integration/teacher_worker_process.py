"""A teacher's worker in a process of its own, so that a test can kill it: arguments are bootstrap address, run
folder, the teacher's URL, the worker's number, how many there are, and their group."""

from __future__ import annotations

import sys
import threading
from typing import Any

from ops.settings import Settings
from teacher.worker import run_worker


def settings_of(run_dir: str, url: str, *, workers: int = 1, group: str, **teacher: Any) -> Settings:
    """Return the settings of such a process."""
    return Settings.model_validate(
        {
            "run_dir": run_dir,
            "teacher_url": url,
            "teacher": {"concurrency": 4, "timeout_s": 10, "retries": 1} | teacher,
            "teacher_worker": {"group": group, "workers": workers},
        }
    )


if __name__ == "__main__":
    bootstrap, run_dir, url, number, workers, group = sys.argv[1:]
    run_worker(
        settings_of(run_dir, url, workers=int(workers), group=group),
        bootstrap,
        number=int(number),
        stop=threading.Event(),
        on_progress=lambda _: None,
    )
