"""A real Triton for tests: its environment, small students as versions, and `relevance serve` in a process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from ops.servers.steps import ROOT, PreparationError
from ops.serving import address, stubs
from ops.serving.connection import Control
from ops.serving.environment import ensure_environment
from ops.settings import Settings, load
from ops.stack.ports import free_port
from students.export.export import export_version
from students.export.fidelity import FidelityLimits
from students.grades import ESCI
from students.publishing.publisher import Publisher
from students.publishing.repository import versions_of
from students.saved import Description, LoadedStudent, new_student
from students.tokenisation import Limits
from students.version_folder import Kind
from tests.students.samples import examples

READY_WITHIN_S = 120.0
PAIRS = [(each.query, each.item_text) for each in examples()]
#: The order of a random model's scores under int8 is chance.
LOOSE = FidelityLimits(rank_correlation=-1.0)


def environment_or_skip() -> None:
    """Make the serving environment, once for all tests; skip where its wheels cannot be had."""
    try:
        ensure_environment(load({}).triton_server, say=print)
    except PreparationError as error:
        pytest.skip(f"no serving environment: {error}")


def small_student(encoder: Path, kind: Kind, *, seed: int) -> LoadedStudent:
    """Return a random student of the smallest size; its scores differ from pair to pair."""
    torch.manual_seed(seed)
    made = new_student(
        Description(paradigm=kind, scale=ESCI, limits=Limits(query=8, input=32)), encoder=encoder
    )
    if kind == "interaction":
        made.model.grade_head.weight.data *= 6  # type: ignore[union-attr, operator]
    made.model.eval()
    return made


@dataclass
class Serving:
    """`relevance serve` under `settings`, which hold its run directory."""

    settings: Settings
    variables: Mapping[str, str]
    process: subprocess.Popen[bytes]
    log: Path
    encoder: Path

    @contextlib.contextmanager
    def publisher(self) -> Iterator[Publisher]:
        """Yield a publisher, as another process would have it."""
        with contextlib.closing(self.control()) as control:
            yield Publisher(self.settings, control)

    def control(self) -> Control:
        """Return an operator's connection."""
        return Control(self.settings)

    def export(self, kind: Kind, *, seed: int, parent: int = 0) -> Path:
        """Return a new version's folder."""
        student = small_student(self.encoder, kind, seed=seed)
        return export_version(
            student, versions_of(self.settings), pairs=PAIRS, parent=parent, now_ms=1, limits=LOOSE
        )

    def publish(self, kind: Kind, *, seed: int) -> int:
        """Export and publish a version and return its number."""
        with self.publisher() as publisher:
            return publisher.publish(self.export(kind, seed=seed)).version

    def ready(self, *, other_than: int = 0) -> address.TritonAddress:
        """Return the address once the server, of another pid than that, is ready."""
        until_s = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < until_s and self.process.poll() is None:
            found = address.read(self.settings.run_dir)
            if found and found.pid != other_than:
                return found
            time.sleep(0.1)
        raise AssertionError(f"the server is not ready:\n{self.log.read_text()}")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Keep `relevance serve` from noticing anything; its tritonserver goes on."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stubs(self) -> dict[tuple[str, int], list[int]]:
        """Return the pids of each served version's processes."""
        found: dict[tuple[str, int], list[int]] = {}
        for stub in stubs.running(self.ready().pid):
            found.setdefault((stub.model, stub.version), []).append(stub.pid)
        return found

    def regions(self) -> list[Path]:
        """Return what lies in shared memory of this server."""
        return list(stubs.SHARED_MEMORY.glob(f"{stubs.region_prefix(self.settings.run_dir)}*"))


@contextlib.contextmanager
def serving(run_dir: Path, encoder: Path, **variables: str) -> Iterator[Serving]:
    """Run `relevance serve` on free ports and end it. `variables` are settings without RELEVANCE_."""
    given = {
        "RELEVANCE_RUN_DIR": str(run_dir),
        "RELEVANCE_TRITON_SERVER__PORT": str(free_port()),
        "RELEVANCE_TRITON_SERVER__METRICS_PORT": str(free_port()),
        "RELEVANCE_TRITON_SERVER__THREADS": "1",
    } | {f"RELEVANCE_{name}": value for name, value in variables.items()}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RELEVANCE_")}
    log = run_dir / "serve.log"
    run_dir.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "ops.cli.main", "serve"],
            cwd=ROOT,
            env=kept | given,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    running = Serving(load(given), given, process, log, encoder)
    try:
        running.ready()
        yield running
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
