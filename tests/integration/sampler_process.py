"""A sampler in a process of its own, so that a test can kill it: arguments are bootstrap address and run folder."""

from __future__ import annotations

import sys
import threading

from ops.settings import Settings
from streams.sampling_worker import run_sampler


def settings_of(run_dir: str) -> Settings:
    """Return the settings of the process: more room than tokens, so that the budget is what ends the sending."""
    return Settings.model_validate(
        {
            "run_dir": run_dir,
            "sampling": {
                "group": "test-killed-sampler",
                "tokens_per_hour": 200_000,
                "burst_share": 0.5,
                "uniform_share": 0.1,
                "max_waiting_pairs": 100_000,
            },
            "teacher_worker": {"group": "test-killed-sampler-teacher"},
        }
    )


if __name__ == "__main__":
    bootstrap, run_dir = sys.argv[1:]
    run_sampler(settings_of(run_dir), bootstrap, stop=threading.Event(), on_progress=lambda _: None)
