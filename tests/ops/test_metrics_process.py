from __future__ import annotations

import socket
import threading

import pytest

from ops.dashboard.access import AccessError
from ops.metrics_process import PartFailedError, _listen, _Threads, run
from ops.settings import Settings


def wait_for(stop: threading.Event) -> None:
    stop.wait(10)


def test_a_thread_that_fails_stops_the_others_and_is_named() -> None:
    stop = threading.Event()
    threads = _Threads(stop)

    def fail() -> None:
        raise ValueError("the broker refused")

    threads.start("watch", lambda: wait_for(stop))
    threads.start("sink", fail)
    assert stop.wait(5)
    threads.join(5)
    with pytest.raises(PartFailedError, match="sink thread of metrics ended: the broker refused"):
        threads.check()


def test_a_thread_that_ends_before_its_time_is_a_failure_too() -> None:
    stop = threading.Event()
    threads = _Threads(stop)
    threads.start("dashboard", lambda: None)
    assert stop.wait(5)
    with pytest.raises(PartFailedError, match="dashboard thread of metrics ended: without an error"):
        threads.check()


def test_threads_that_end_when_told_to_are_no_failure() -> None:
    stop = threading.Event()
    threads = _Threads(stop)
    threads.start("watch", lambda: wait_for(stop))
    stop.set()
    threads.join(5)
    threads.check()


def test_a_taken_port_is_said_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"127.0.0.1 port {port}.*RELEVANCE_METRICS__PORT"):
            _listen("127.0.0.1", port)


def test_beyond_loopback_without_a_token_it_does_not_start() -> None:
    settings = Settings.model_validate({"metrics": {"host": "0.0.0.0"}})
    with pytest.raises(AccessError):
        run(settings, "127.0.0.1:1", port=1, stop=threading.Event())
