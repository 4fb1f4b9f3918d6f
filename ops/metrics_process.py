"""The `metrics` part: one process that writes to ClickHouse, watches the experiment, feeds the feature store and
serves the dashboard.

They share a process because only one can hold the embedded ClickHouse. Each has a thread and a client of
its own; if a thread ends before its time the process ends with an error, for a supervisor to start anew.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import uvicorn

from ops import features_feed, heartbeat
from ops.clickhouse.client import open_client
from ops.clickhouse.migrate import migrate
from ops.clickhouse.sink import Progress, run_sink
from ops.dashboard.access import required_token
from ops.dashboard.app import create_app
from ops.dashboard.lag import LagWatch
from ops.dashboard.source import Source
from ops.experiments.states import StateReader, watch
from ops.settings import Settings

PART = "metrics"
BEAT_EVERY_S = 1.0
#: All threads together get this long to end: the supervisor gives the whole stack ten seconds.
STOP_WITHIN_S = 4.0
#: Viewers hold their connection open for ever, so it is closed on them.
GRACE_S = 1

log = logging.getLogger(__name__)


class PartFailedError(RuntimeError):
    """A thread of the process ended before it was told to."""


def run(settings: Settings, bootstrap: str, *, port: int, stop: threading.Event) -> None:
    """Run until `stop` is set, then end within five seconds.

    The dashboard listens on `settings.metrics.host` and `port`; the topics must exist. Raises AccessError if
    it would be open to strangers, OSError if the port is taken, ClickHouseUnavailableError if the store can't
    be opened, and PartFailedError if the sink, the watch or the web server fails.
    """
    required_token(settings)
    pulse = _Pulse(settings)
    pulse.beat("starting", "opening the event store")
    with ExitStack() as opened:
        listening = opened.enter_context(_listen(settings.metrics.host, port))
        clients = [open_client(settings) for _ in range(6 if settings.stack.features else 5)]
        for client in clients:
            opened.callback(client.close)
        migrate(clients[0])
        lag = LagWatch(settings, bootstrap)
        states = StateReader(settings, bootstrap)
        opened.callback(states.close)
        source = Source(
            settings,
            report_client=clients[2],
            flow_client=clients[3],
            request_client=clients[4],
            lag=lag,
            states=states,
        )
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(settings, source, closing=stop),
                lifespan="off",
                access_log=False,
                log_config=None,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        threads = _Threads(stop)
        lag.start()
        opened.callback(lag.stop)
        threads.start(
            "sink", lambda: run_sink(settings, bootstrap, clients[0], stop=stop, on_progress=pulse.progressed)
        )
        threads.start("watch", lambda: watch(settings, bootstrap, clients[1], stop=stop))
        if settings.stack.features:
            threads.start(
                "feed",
                lambda: features_feed.run_feed(
                    settings, bootstrap, clients[5], stop=stop, progress=pulse.feed
                ),
            )
        threads.start("dashboard", lambda: server.run(sockets=[listening]))
        try:
            while not stop.wait(BEAT_EVERY_S):
                pulse.beat_now()
        finally:
            stop.set()
            server.should_exit = True
            pulse.beat("stopping", "")
            threads.join(STOP_WITHIN_S)
    threads.check()


class _Pulse:
    """The part's heartbeat, made of the sink's and the feed's progress."""

    def __init__(self, settings: Settings) -> None:
        self.feed = features_feed.Progress()
        self._feeds = settings.stack.features
        self._run_dir = settings.run_dir
        self._progress: Progress | None = None

    def progressed(self, progress: Progress) -> None:
        self._progress = progress

    def beat_now(self) -> None:
        progress = self._progress
        if progress is None:
            self.beat("starting", "the sink is joining its consumer group")
        else:
            rows = sum(progress.rows.values())
            self.beat("ready", progress.trouble or self.feed.trouble or f"{rows:,} rows written since start")

    def beat(self, state: str, detail: str) -> None:
        counters = self._progress.counters() if self._progress else {}
        heartbeat.beat(
            self._run_dir,
            heartbeat.Heartbeat(
                part=PART,
                pid=os.getpid(),
                at_s=time.time(),
                state=state,
                detail=detail,
                counters=counters | (self.feed.counters() if self._feeds else {}),
            ),
        )


class _Threads:
    """Threads that end together: the first one to end sets `stop`."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._threads: list[threading.Thread] = []
        self._early: list[tuple[str, BaseException | None]] = []

    def start(self, name: str, work: Callable[[], None]) -> None:
        def guarded() -> None:
            error: BaseException | None = None
            try:
                work()
            except BaseException as caught:
                log.exception("%s failed", name)
                error = caught
            finally:
                if error is not None or not self._stop.is_set():
                    self._early.append((name, error))
                self._stop.set()

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self, timeout_s: float) -> None:
        until_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))
            if thread.is_alive():
                log.warning("%s did not end within %.0f s and is left behind", thread.name, timeout_s)

    def check(self) -> None:
        """Raise PartFailedError if a thread failed, or ended before it was told to."""
        for name, error in self._early:
            raise PartFailedError(
                f"the {name} thread of {PART} ended: {error or 'without an error'}"
            ) from error


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(
            f"the dashboard can't listen on {host} port {port}: {error.strerror or error}; "
            "stop what does, or set RELEVANCE_METRICS__PORT"
        ) from error
