"""A process that does nothing but run the sink, to be killed: `python -m ... BOOTSTRAP` with the usual settings."""

from __future__ import annotations

import signal
import sys
import threading

from ops.clickhouse.client import open_client
from ops.clickhouse.migrate import migrate
from ops.clickhouse.sink import Progress, run_sink
from ops.settings import load


def main() -> None:
    """Run until SIGTERM; print the number of blocks whenever it changes."""
    settings = load()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    last = -1

    def show(progress: Progress) -> None:
        nonlocal last
        if progress.blocks != last:
            last = progress.blocks
            print(f"blocks {last} {progress.trouble}", flush=True)

    with open_client(settings) as client:
        migrate(client)
        run_sink(settings, sys.argv[1], client, stop=stop, on_progress=show)


if __name__ == "__main__":
    main()
