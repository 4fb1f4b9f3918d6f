"""Does the broker answer? A metadata request, as any client would send one."""

from __future__ import annotations

import socket
import time

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from ops.kafka import connection
from ops.settings import Settings


class BrokerProbe:
    """Asks one broker again and again over one connection. Not for use by several threads at once."""

    def __init__(self, settings: Settings, bootstrap: str, *, timeout_s: float = 5.0) -> None:
        self._settings = settings
        self._bootstrap = bootstrap
        self._timeout_s = timeout_s
        self._admin: KafkaAdminClient | None = None

    def failure(self) -> str | None:
        """Send one metadata request. Return None if it was answered, else one line that says why not."""
        try:
            if self._admin is None:
                # A client that fails to bootstrap keeps its thread, so none is made while nobody listens.
                _knock(self._bootstrap, self._timeout_s)
                timeout_ms = int(self._timeout_s * 1000)
                self._admin = KafkaAdminClient(
                    **connection(self._settings, self._bootstrap),
                    bootstrap_timeout_ms=timeout_ms,
                    request_timeout_ms=timeout_ms,
                    reconnect_backoff_max_ms=1000,
                )
            self._admin.list_topics()
        except (KafkaError, OSError) as error:
            text = str(error).strip() or type(error).__name__
            return text.splitlines()[0][:300]
        return None

    def close(self) -> None:
        """Close the connection."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None


def failure(settings: Settings, bootstrap: str, *, timeout_s: float = 5.0) -> str | None:
    """Ask once. Return None if the broker answered, else one line that says why not."""
    probe = BrokerProbe(settings, bootstrap, timeout_s=timeout_s)
    try:
        return probe.failure()
    finally:
        probe.close()


def wait_until_ready(settings: Settings, bootstrap: str, *, timeout_s: float) -> None:
    """Return once the broker answers. Raises TimeoutError with the last reason after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while reason := failure(settings, bootstrap, timeout_s=2.0):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no broker answers at {bootstrap} after {timeout_s:g} s: {reason}")
        time.sleep(0.1)


def _knock(bootstrap: str, timeout_s: float) -> None:
    """Open and close a TCP connection to any of the servers. Raises OSError of the last if none listens."""
    problem: OSError | None = None
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s).close()
        except OSError as error:
            problem = OSError(f"{address.strip()}: {error}")
        else:
            return
    raise problem or OSError(f"expected host:port, got {bootstrap!r}")
