"""The real local stack: started, watched, killed part by part, stopped, started again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kafka import TopicPartition

from ops import endpoints, heartbeat
from ops.kafka import consumer
from ops.settings import Settings
from ops.stack import leftovers, run_lock, supervision
from ops.stack.ports import free_port
from streams.topics import UBI_QUERIES

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]
ROOT = Path(__file__).resolve().parents[2]
STARTS_WITHIN_S = 150.0
RESTARTS_WITHIN_S = 60.0
#: Far beyond the ten seconds that a stop takes, for a machine that is busy.
ENDS_WITHIN_S = 90.0
#: Parts beat once a second, if the machine lets them.
FRESH_S = 30.0
PARTS = ("broker", "streams-1", "metrics", "features", "shop")
SMALL_SHOP = {
    "RELEVANCE_SHOP__ITEMS": "300",
    "RELEVANCE_SHOP__QUERIES": "100",
    "RELEVANCE_SHOP__SHOPPERS": "50",
    "RELEVANCE_SHOP__HISTORY_SEARCHES": "50",
    "RELEVANCE_SHOP__SEARCHES_PER_S": "10",
}


@dataclass
class Relevance:
    """Runs the command line in one run directory; whatever it leaves running is ended after the test."""

    run_dir: Path
    environment: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "ops.cli.main", "--run-dir", str(self.run_dir), *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def up(self) -> subprocess.Popen[bytes]:
        """Start the stack and return once `up` says that it is ready."""
        log = self.run_dir.parent / f"up-{len(self.processes)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.command("up"), cwd=ROOT, env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )
        self.processes.append(process)
        wait_for(
            lambda: process.poll() is not None or b"Ctrl-C stops" in log.read_bytes(),
            STARTS_WITHIN_S,
            log.read_text,
        )
        assert process.poll() is None, log.read_text()
        return process

    def output(self) -> str:
        return (self.run_dir.parent / f"up-{len(self.processes) - 1}.log").read_text()


def wait_for(done: Callable[[], bool], within_s: float, told: Callable[[], str] = str) -> float:
    """Return how long it took until `done`; fail with what is `told` if it took longer than `within_s`."""
    began_s = time.monotonic()
    while not done():
        if time.monotonic() - began_s > within_s:
            pytest.fail(f"not within {within_s:g} s: {told()}")
        time.sleep(0.1)
    return time.monotonic() - began_s


@pytest.fixture
def relevance(tmp_path: Path) -> Iterator[Relevance]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RELEVANCE_")}
    ports = {
        "RELEVANCE_STACK__BROKER_PORT": str(free_port()),
        "RELEVANCE_METRICS__PORT": str(free_port()),
    }
    found = Relevance(tmp_path / "run", kept | SMALL_SHOP | ports)
    try:
        yield found
    finally:
        for process in found.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        leftovers.end(found.run_dir, within_s=5)


def pid_of(run_dir: Path, part: str) -> int:
    return supervision.Supervisor(supervision.socket_path(run_dir)).processes()[part].pid


def is_healthy(run_dir: Path, part: str, *, unlike: int = 0) -> bool:
    sign = heartbeat.read(run_dir, part)
    fresh = sign is not None and sign.state == "ready" and time.time() - sign.at_s < FRESH_S
    pid = pid_of(run_dir, part)
    return fresh and pid not in (0, unlike) and sign is not None and (part == "broker" or sign.pid == pid)


def searches(bootstrap: str) -> int:
    """Count the searches that the broker has been sent."""
    with closing(consumer(Settings(), bootstrap)) as client:
        numbers = client.partitions_for_topic(UBI_QUERIES) or set()
        ends = client.end_offsets([TopicPartition(UBI_QUERIES, number) for number in numbers])
        return sum(ends.values())


def kill_and_wait(relevance: Relevance, part: str) -> float:
    """Kill a part with SIGKILL and return how long it took until another one was healthy."""
    killed = pid_of(relevance.run_dir, part)
    os.kill(killed, signal.SIGKILL)
    took_s = wait_for(
        lambda: is_healthy(relevance.run_dir, part, unlike=killed), RESTARTS_WITHIN_S, relevance.output
    )
    wait_for(lambda: f"{part:<11} died" in relevance.output(), RESTARTS_WITHIN_S, relevance.output)
    return took_s


def assert_nothing_left(run_dir: Path) -> None:
    assert leftovers.find(run_dir) == []
    assert not run_lock.path_in(run_dir).exists()
    assert not endpoints.path_in(run_dir).exists()
    assert not supervision.socket_path(run_dir).exists()
    assert not list(run_dir.rglob("*.sock"))


def test_a_stack_lives_is_mended_stops_and_goes_on(relevance: Relevance) -> None:
    run_dir = relevance.run_dir
    up = relevance.up()
    ready = re.findall(r"^(\S+) +ready +[\d.]+ s", relevance.output(), re.MULTILINE)
    # Features and shop start together, so either may be ready first.
    assert ready[:3] == list(PARTS[:3])
    assert sorted(ready[3:5]) == ["features", "shop"]
    assert ready[5:] == ["stack"]
    assert all(is_healthy(run_dir, part) for part in PARTS)

    second = relevance.run("up")
    assert second.returncode == 1
    assert f"a stack already runs in {run_dir} (pid {up.pid})" in second.stderr
    assert "relevance down" in second.stderr

    for part in ("streams-1", "metrics", "features", "shop"):
        print(f"{part} was healthy again {kill_and_wait(relevance, part):.1f} s after its SIGKILL")

    status = relevance.run("status")
    assert status.returncode == 0, status.stdout + status.stderr
    doctor = relevance.run("doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr

    address = endpoints.read(run_dir)
    assert address is not None
    before = searches(address.kafka)
    assert before > 50
    began_s = time.monotonic()
    up.send_signal(signal.SIGINT)
    assert up.wait(timeout=ENDS_WITHIN_S) == 0
    print(f"stopped in {time.monotonic() - began_s:.1f} s")
    # The deadlines within the ten seconds are those of `stop_parts`; here the broker has saved within its own.
    assert "is killed" not in relevance.output()
    assert_nothing_left(run_dir)

    up = relevance.up()
    address = endpoints.read(run_dir)
    assert address is not None
    assert searches(address.kafka) >= before
    down = relevance.run("down")
    assert down.returncode == 0
    assert f"stopped pid {up.pid}" in down.stdout
    up.wait(timeout=ENDS_WITHIN_S)
    assert_nothing_left(run_dir)


@pytest.mark.parametrize("victim", ["up", "supervisor"])
def test_nothing_outlives_a_sigkill(relevance: Relevance, victim: str) -> None:
    run_dir = relevance.run_dir
    up = relevance.up()
    if victim == "up":
        up.kill()
        assert up.wait() == -signal.SIGKILL
    else:
        os.kill(int((run_dir / "supervisor" / "supervisord.pid").read_text()), signal.SIGKILL)
        assert up.wait(timeout=ENDS_WITHIN_S) == 1
        assert "the supervisor has ended" in relevance.output()
    took_s = wait_for(
        lambda: not leftovers.find(run_dir), ENDS_WITHIN_S, lambda: str(leftovers.find(run_dir))
    )
    print(f"nothing runs {took_s:.1f} s after the SIGKILL of {victim}")
    up = relevance.up()
    assert is_healthy(run_dir, "streams-1")
    up.send_signal(signal.SIGTERM)
    assert up.wait(timeout=ENDS_WITHIN_S) == 0
    assert_nothing_left(run_dir)
