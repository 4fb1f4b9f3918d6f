"""supervisord, tied to the life of `relevance up`: `python -m ops.stack.supervisor_process CONFIG`."""

from __future__ import annotations

import os
import signal
import sys

import setproctitle
from supervisor import supervisord

from ops.stack.lifeline import PARENT_VARIABLE, die_with_parent


def main(configuration: str) -> None:
    """Run supervisord in the foreground. It stops its parts in order when `relevance up` is killed."""
    die_with_parent(signal.SIGTERM)
    os.environ[PARENT_VARIABLE] = str(os.getpid())
    setproctitle.setproctitle("relevance: supervisor")
    supervisord.main(["--nodaemon", "--configuration", configuration])


if __name__ == "__main__":
    main(sys.argv[1])
