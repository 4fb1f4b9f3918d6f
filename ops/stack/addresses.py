"""Where the parts listen: the ports of the settings, or free ones where these are taken."""

from __future__ import annotations

from collections.abc import Callable

from ops.endpoints import Endpoints
from ops.settings import Settings
from ops.stack import plan
from ops.stack.ports import free_port


def choose(settings: Settings, say: Callable[[str], None]) -> Endpoints:
    """Return the addresses of this run; `say` is told of every port that is not the usual one."""
    kafka, wanted = settings.kafka, settings.stack.broker_port
    taken: set[int] = set()

    def listens(what: str, wanted: int, host: str) -> str:
        port = free_port(wanted, host, taken=frozenset(taken))
        taken.add(port)
        if port != wanted:
            say(f"port {wanted} is taken: {what} {port}")
        return f"{reachable(host)}:{port}"

    if not kafka:
        kafka = listens("the broker listens on", wanted, "127.0.0.1")
    dashboard = listens("the page is on", settings.metrics.port, settings.metrics.host)
    triton = teacher = ""
    if plan.has_triton(settings):
        triton = listens("Triton listens on", settings.triton_server.port, settings.triton_server.host)
    if plan.has_teacher_server(settings):
        server = settings.teacher_server
        teacher = f"http://{listens('the teacher listens on', server.port, server.host)}/v1"
    return Endpoints(kafka=kafka, dashboard=f"http://{dashboard}", triton=triton, teacher=teacher)


def variables(endpoints: Endpoints) -> dict[str, str]:
    """Return the settings by which a server that is started again listens where it did before."""
    found = {}
    if endpoints.triton:
        found["RELEVANCE_TRITON_SERVER__PORT"] = endpoints.triton.rpartition(":")[2]
    if endpoints.teacher:
        port = endpoints.teacher.removesuffix("/v1").rpartition(":")[2]
        found["RELEVANCE_TEACHER_SERVER__PORT"] = port
    return found


def reachable(host: str) -> str:
    """Return how this machine reaches a server that listens on `host`, as part of a URL.

    >>> [reachable(host) for host in ("127.0.0.1", "0.0.0.0", "::", "::1")]
    ['127.0.0.1', '127.0.0.1', '[::1]', '[::1]']
    """
    if host == "0.0.0.0":
        return "127.0.0.1"
    address = "::1" if host == "::" else host
    return f"[{address}]" if ":" in address else address
