"""What the benchmarks of serving share: students, versions, shop texts, and a real Triton in a process of its own.

The students are the default encoder's lowest layers with random heads: speed does not depend on what they learnt.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ops.scoring.client import Candidate, ScoringClient
from ops.scoring.routes import Routes
from ops.scoring.scorer import text_of
from ops.scoring.vectors import VectorTables
from ops.serving import address
from ops.serving.connection import Control
from ops.settings import Settings, load
from ops.shop.shop import open_shop
from ops.stack.ports import free_port
from students.export.export import export_version
from students.export.fidelity import FidelityLimits
from students.grades import ESCI
from students.publishing.publisher import Publisher
from students.publishing.repository import versions_of
from students.saved import Description, new_student
from students.tokenisation import Limits
from students.version_folder import Kind

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 180.0
#: Random heads give scores that are close together, so their order under int8 is chance.
LOOSE = FidelityLimits(mean_error=0.2, largest_error=1.0, rank_correlation=-1.0)


def arguments_of(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the students and the server."""
    parser.add_argument("--layers", type=int, default=3, help="of the encoder, lowest first")
    parser.add_argument("--precision", choices=["int8", "fp32"], default="int8")
    parser.add_argument("--threads", type=int, default=0, help="of one execution; 0: one a core")
    parser.add_argument("--items", type=int, default=2000, help="of the simulated shop")


@dataclass(frozen=True, slots=True)
class Bench:
    """A running server, and texts to score."""

    settings: Settings
    process: subprocess.Popen[bytes]
    queries: list[str]
    candidates: list[Candidate]
    arguments: argparse.Namespace

    def control(self) -> Control:
        """Return an operator's connection."""
        return Control(self.settings)

    def client(self, routes: Callable[[], Routes], *, best: int = 50) -> ScoringClient:
        """Return a client of these routes that has the interaction student score the `best` candidates."""
        scoring = self.settings.scoring.model_copy(update={"interaction_candidates": best})
        return ScoringClient(
            self.settings.model_copy(update={"scoring": scoring}),
            routes=routes,
            vectors=VectorTables(versions_of(self.settings)),
            lexical=lambda query, candidates: [0.0] * len(candidates),
        )

    def export(self, kind: Kind, *, seed: int) -> Path:
        """Return a new version of a student with other random heads."""
        torch.manual_seed(seed)
        student = new_student(
            Description(paradigm=kind, scale=ESCI, limits=Limits()), layers=self.arguments.layers
        )
        rng = random.Random(seed)
        pairs = [(rng.choice(self.queries), rng.choice(self.candidates).text) for _ in range(24)]
        return export_version(
            student, versions_of(self.settings), pairs=pairs, now_ms=time.time_ns() // 1_000_000, limits=LOOSE
        )

    def publish(self, folder: Path) -> int:
        """Publish an exported version and return its number."""
        with contextlib.closing(self.control()) as control:
            return Publisher(self.settings, control).publish(folder).version

    def ready(self, *, other_than: int = 0) -> address.TritonAddress:
        """Return the address once a server of another pid than that is ready."""
        until_s = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < until_s and self.process.poll() is None:
            found = address.read(self.settings.run_dir)
            if found and found.pid != other_than:
                return found
            time.sleep(0.02)
        raise RuntimeError(f"the server is not ready: see {self.settings.run_dir / 'serve.log'}")


@contextlib.contextmanager
def running(arguments: argparse.Namespace) -> Iterator[Bench]:
    """Start a server without versions in a temporary run directory, and end it."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {
            "RELEVANCE_RUN_DIR": folder,
            "RELEVANCE_TRITON_SERVER__PORT": str(free_port()),
            "RELEVANCE_TRITON_SERVER__METRICS_PORT": str(free_port()),
            "RELEVANCE_TRITON_SERVER__THREADS": str(arguments.threads),
            "RELEVANCE_SERVING__PRECISION": arguments.precision,
            "RELEVANCE_SERVING__PARITY": "0.2",
            "RELEVANCE_SHOP__ITEMS": str(arguments.items),
            "RELEVANCE_SHOP__QUERIES": "500",
        }
        settings = load(variables)
        shop = open_shop(settings.shop)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RELEVANCE_")}
        with (Path(folder) / "serve.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "ops.cli.main", "serve"],
                cwd=ROOT,
                env=kept | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        bench = Bench(
            settings=settings,
            process=process,
            queries=[each.text for each in shop.queries],
            candidates=[Candidate(item.item_id, text_of(item)) for item in shop.items.values()],
            arguments=arguments,
        )
        try:
            bench.ready()
            yield bench
        finally:
            process.terminate()
            process.wait(timeout=60)


def percentiles(latencies_ms: list[float]) -> str:
    """Return p50 and p99 as text."""
    p50, p99 = np.percentile(latencies_ms, [50, 99])
    return f"p50 {p50:8.2f} ms  p99 {p99:8.2f} ms"
