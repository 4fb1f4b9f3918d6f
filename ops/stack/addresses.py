"""Where the parts listen: the ports of the settings, or free ones where these are taken."""

from __future__ import annotations

from collections.abc import Callable

from ops.endpoints import Endpoints
from ops.settings import Settings
from ops.stack.ports import free_port


def choose(settings: Settings, say: Callable[[str], None]) -> Endpoints:
    """Return the addresses of this run; `say` is told of every port that is not the usual one."""
    kafka, wanted = settings.kafka, settings.stack.broker_port
    taken: frozenset[int] = frozenset()
    if not kafka:
        port = free_port(wanted)
        taken = frozenset({port})
        if port != wanted:
            say(f"port {wanted} is taken: the broker listens on {port}")
        kafka = f"127.0.0.1:{port}"
    host, wanted = settings.metrics.host, settings.metrics.port
    port = free_port(wanted, host, taken=taken)
    if port != wanted:
        say(f"port {wanted} is taken: the page is on {port}")
    return Endpoints(kafka=kafka, dashboard=f"http://{reachable(host)}:{port}")


def reachable(host: str) -> str:
    """Return how this machine reaches a server that listens on `host`, as part of a URL.

    >>> [reachable(host) for host in ("127.0.0.1", "0.0.0.0", "::", "::1")]
    ['127.0.0.1', '127.0.0.1', '[::1]', '[::1]']
    """
    if host == "0.0.0.0":
        return "127.0.0.1"
    address = "::1" if host == "::" else host
    return f"[{address}]" if ":" in address else address
