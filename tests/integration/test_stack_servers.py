"""The local stack with its own Triton: students published to it score the shop's searches, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from kafka import TopicPartition

from ops import endpoints, heartbeat
from ops.kafka import consumer
from ops.servers import processes
from ops.serving import address, stubs
from ops.serving.connection import Control
from ops.settings import Settings, load
from ops.stack import leftovers, plan
from ops.stack.ports import free_port
from streams.topics import STUDENTS, UBI_QUERIES
from students.export.export import export_version
from students.publishing.publisher import Publisher
from students.publishing.repository import versions_of
from tests.integration.test_stack import ROOT, SMALL_SHOP, Relevance, assert_nothing_left, pid_of, wait_for
from tests.integration.triton_server import LOOSE, PAIRS, environment_or_skip, small_student
from tests.students.samples import write_small_encoder

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]
PATIENCE_S = 180.0
ENDS_WITHIN_S = 90.0
SCORED = 20


@pytest.fixture
def relevance(tmp_path: Path) -> Iterator[Relevance]:
    environment_or_skip()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RELEVANCE_")}
    chosen = {
        "STACK__BROKER_PORT": free_port(),
        "METRICS__PORT": free_port(),
        "TRITON_SERVER__PORT": free_port(),
        "TRITON_SERVER__METRICS_PORT": free_port(),
        "TRITON_SERVER__THREADS": 1,
        "STACK__TRITON": "true",
        "STACK__FEATURES": "false",
        "SHOP__STUDENTS": "true",
        "SERVING__RETIRE_AFTER_S": 1,
        # However busy the machine is.
        "SCORING__DEADLINE_MS": 5000,
    }
    variables = {f"RELEVANCE_{name}": str(value) for name, value in chosen.items()}
    found = Relevance(tmp_path / "run", kept | SMALL_SHOP | variables)
    try:
        yield found
    finally:
        for process in found.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        leftovers.end(found.run_dir, within_s=5)


def settings_of(relevance: Relevance) -> Settings:
    return load(relevance.environment | {"RELEVANCE_RUN_DIR": str(relevance.run_dir)})


def publish(settings: Settings, encoder: Path, *, seed: int) -> int:
    student = small_student(encoder, "interaction", seed=seed)
    folder = export_version(student, versions_of(settings), pairs=PAIRS, parent=0, now_ms=1, limits=LOOSE)
    with closing(Control(settings)) as control:
        return Publisher(settings, control).publish(folder).version


def records(settings: Settings, topic: str, *, after: dict[TopicPartition, int] | None = None) -> list[Any]:
    """Return what a topic holds, `after` these offsets."""
    with closing(consumer(settings, endpoints.kafka_address(settings))) as client:
        numbers = client.partitions_for_topic(topic) or set()
        partitions = [TopicPartition(topic, number) for number in numbers]
        ends = client.end_offsets(partitions)
        client.assign(partitions)
        for partition in partitions:
            client.seek(partition, (after or {}).get(partition, 0))
        found: list[Any] = []
        until_s = time.monotonic() + PATIENCE_S
        while any(client.position(partition) < end for partition, end in ends.items()):
            assert time.monotonic() < until_s, f"{topic} cannot be read"
            for taken in client.poll(timeout_ms=200).values():
                found += [msgspec.json.decode(record.value) for record in taken if record.value]
    return found


def ends_of(settings: Settings, topic: str) -> dict[TopicPartition, int]:
    with closing(consumer(settings, endpoints.kafka_address(settings))) as client:
        numbers = client.partitions_for_topic(topic) or set()
        ends: dict[TopicPartition, int] = client.end_offsets(
            [TopicPartition(topic, number) for number in numbers]
        )
    return ends


def wait_until_scored(relevance: Relevance, version: str) -> None:
    """Return once searches from now on were scored by a version."""
    settings = settings_of(relevance)
    before = ends_of(settings, UBI_QUERIES)

    def scored() -> bool:
        made = [each["query_attributes"] for each in records(settings, UBI_QUERIES, after=before)]
        right = [each for each in made if each["student_version"] == version and not each["fallback"]]
        return len(right) >= SCORED

    wait_for(scored, PATIENCE_S, relevance.output)


def ready(relevance: Relevance, *, other_than: int = 0) -> address.TritonAddress:
    def found() -> bool:
        here = address.read(relevance.run_dir)
        sign = heartbeat.read(relevance.run_dir, plan.TRITON)
        return here is not None and here.pid != other_than and sign is not None and sign.state == "ready"

    wait_for(found, PATIENCE_S, relevance.output)
    here = address.read(relevance.run_dir)
    assert here is not None
    return here


def test_triton_is_a_part_that_may_be_killed_and_leaves_nothing(relevance: Relevance, tmp_path: Path) -> None:
    run_dir, settings = relevance.run_dir, settings_of(relevance)
    encoder = write_small_encoder(tmp_path / "encoder")
    up = relevance.up()
    first = ready(relevance)
    stack = endpoints.read(run_dir)
    assert stack is not None
    assert stack.triton == first.grpc == f"127.0.0.1:{settings.triton_server.port}"
    status = relevance.run("status")
    assert f"triton {first.grpc}" in status.stdout, status.stdout
    doctor = relevance.run("doctor")
    assert "triton                      answers" in doctor.stdout, doctor.stdout

    # Announced by the part itself.
    champion = publish(settings, encoder, seed=1)
    wait_until_scored(relevance, f"interaction-{champion}")

    os.kill(first.pid, signal.SIGKILL)
    second = ready(relevance, other_than=first.pid)
    assert second.grpc == first.grpc
    wait_until_scored(relevance, f"interaction-{champion}")

    part = pid_of(run_dir, plan.TRITON)
    os.kill(part, signal.SIGKILL)
    third = ready(relevance, other_than=second.pid)
    assert pid_of(run_dir, plan.TRITON) != part
    assert third.grpc == first.grpc
    assert processes.members(second.pid) == []
    wait_until_scored(relevance, f"interaction-{champion}")

    # Rolled back, it has no part any more.
    unused = publish(settings, encoder, seed=2)
    with closing(Control(settings)) as control:
        Publisher(settings, control).take_off("interaction")
    wait_for(
        lambda: any(step["step"] == "retired" for step in records(settings, STUDENTS)),
        PATIENCE_S,
        relevance.output,
    )
    retired = next(step for step in records(settings, STUDENTS) if step["step"] == "retired")
    assert (retired["kind"], retired["version"], retired["champion"]) == ("interaction", unused, champion)

    up.send_signal(signal.SIGINT)
    assert up.wait(timeout=ENDS_WITHIN_S) == 0
    assert_nothing_left(run_dir)
    assert_no_server_left(run_dir, first, second, third)
    assert retired_in_store(run_dir) == [f"interaction-{unused}"]


def retired_in_store(run_dir: Path) -> list[str]:
    """Return what ClickHouse holds, asked in a process of its own: the embedded engine has one folder a process."""
    code = (
        "import json, sys\n"
        "from ops.clickhouse.client import open_client\n"
        "from ops.settings import Settings\n"
        "client = open_client(Settings.model_validate({'run_dir': sys.argv[1]}))\n"
        "found = client.query(\"SELECT student_version FROM student_versions WHERE step = 'retired'\")\n"
        "print(json.dumps([row[0] for row in found.result_rows]))\n"
        "client.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run_dir)], cwd=ROOT, stdout=subprocess.PIPE, timeout=120, check=True
    )
    return cast(list[str], json.loads(done.stdout))


def assert_no_server_left(run_dir: Path, *servers: address.TritonAddress) -> None:
    assert [processes.members(server.pid) for server in servers] == [[] for _ in servers]
    assert list(stubs.SHARED_MEMORY.glob(f"{stubs.region_prefix(run_dir)}*")) == []
    assert address.read(run_dir) is None


def test_what_a_killed_stack_leaves_is_ended_by_the_next(relevance: Relevance) -> None:
    run_dir = relevance.run_dir
    up = relevance.up()
    first = ready(relevance)
    supervisor = int((run_dir / "supervisor" / "supervisord.pid").read_text())
    part = pid_of(run_dir, plan.TRITON)
    # Nobody is left who could end Triton, and it is too busy to end when it is told.
    os.kill(first.pid, signal.SIGSTOP)
    for pid in (up.pid, supervisor, part):
        os.kill(pid, signal.SIGKILL)
    up.wait()
    region = stubs.SHARED_MEMORY / f"{stubs.region_prefix(run_dir)}left"
    region.touch()
    assert first.pid in processes.members(first.pid)

    up = relevance.up()
    assert "that an earlier stack had left behind" in relevance.output()
    second = ready(relevance, other_than=first.pid)
    assert not region.exists()
    assert processes.members(first.pid) == []
    up.send_signal(signal.SIGTERM)
    assert up.wait(timeout=ENDS_WITHIN_S) == 0
    assert_nothing_left(run_dir)
    assert_no_server_left(run_dir, second)
