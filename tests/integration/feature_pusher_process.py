"""A pusher in a process of its own, so that a test can kill it: arguments are bootstrap address and run directory."""

from __future__ import annotations

import sys
import threading

from feature_store.pusher import run_pusher
from ops.settings import Settings


def settings_of(run_dir: str) -> Settings:
    """Return the settings of the process: small batches, so that a kill falls between some."""
    return Settings.model_validate(
        {
            "run_dir": run_dir,
            "features": {"group": "test-killed-pusher", "flush_within_s": 0.2, "flush_rows": 200},
        }
    )


if __name__ == "__main__":
    bootstrap, run_dir = sys.argv[1:]
    run_pusher(settings_of(run_dir), bootstrap, stop=threading.Event(), on_progress=lambda _: None)
