"""Routes kept up to date beside an ad engine: a thread follows the topic, and reads a version's item vectors before
queries are routed to it. So a switch of version and vectors is one assignment."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from kafka.errors import KafkaError

from ops.scoring.routes import RouteReader, Routes, RoutesUnreadableError
from ops.settings import Settings

EVERY_S = 0.5
STOPS_WITHIN_S = 5.0

logger = logging.getLogger(__name__)


class RouteFollower:
    """A context manager; call it for the routes as of the last read. While the broker is away the last ones hold."""

    def __init__(
        self, settings: Settings, bootstrap: str, *, prepare: Callable[[int], None], every_s: float = EVERY_S
    ) -> None:
        """`prepare` is called with each representation version that is about to be routed to. Raises KafkaError."""
        self.trouble = ""
        self._reader = RouteReader(settings, bootstrap)
        self._prepare = prepare
        self._every_s = every_s
        self._routes = Routes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="routes", daemon=True)

    def __call__(self) -> Routes:
        """Return the routes."""
        return self._routes

    def __enter__(self) -> RouteFollower:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._stop.set()
        self._thread.join(STOPS_WITHIN_S)
        self._reader.close()

    def _follow(self) -> None:
        while not self._stop.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        try:
            routes = self._reader.read()
        except (KafkaError, RoutesUnreadableError) as error:
            if not self.trouble:
                logger.warning("routes are those read last: %s", error)
            self.trouble = str(error)
            return
        self.trouble = ""
        if routes == self._routes:
            return
        for treatment in (False, True):
            if version := routes.versions(treatment=treatment)[1]:
                self._prepare(version)
        self._routes = routes
