"""A real Redis for tests, where the machine has one."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None,
    reason="no redis-server on PATH (Debian: apt-get install redis-server)",
)


@contextmanager
def redis_server(folder: Path, *, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run Redis on a port of the loopback, with its data in a folder, until the block ends."""
    process = subprocess.Popen(
        [
            "redis-server",
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(folder),
            "--appendonly",
            "yes",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        with Redis(port=port) as client:
            deadline_s = time.monotonic() + 90
            while True:
                try:
                    client.ping()
                    break
                except RedisError:
                    if time.monotonic() > deadline_s or process.poll() is not None:
                        raise
                    time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)
