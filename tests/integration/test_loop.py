"""The loop joined, on a real broker and a real Triton: judged, learned, published, promoted, served, rolled back.

The teacher's judgements are put on the topic by the test; from there on everything is what runs in the stack.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from clickhouse_connect.driver.client import Client

from ops.experiments.guardrails import Guardrail
from ops.experiments.report import report_since
from ops.kafka import ensure_topics, producer
from ops.loop.process import keep
from ops.loop.promoter import Promoter
from ops.scoring.client import Candidate, Scored, ScoringClient
from ops.scoring.routes import RouteReader
from ops.scoring.vectors import VectorTables
from ops.settings import Settings
from streams.records import StudentStep
from streams.topics import JUDGEMENTS, TOPICS
from students import saved
from students.export.export import export_version
from students.incremental.trainer import run_trainer
from students.publishing.ledger import Ledger, route_of
from students.publishing.repository import root_of, versions_of
from tests.integration.test_experiment_report import TABLES, Traffic
from tests.integration.triton_server import LOOSE, PAIRS, Serving, environment_or_skip, serving
from tests.students.incremental.samples import judgements, tiny_trainer, write_first, write_golden
from tests.students.samples import write_small_encoder

pytestmark = pytest.mark.integration

WITHIN_S = 240.0
KIND = "interaction"
SHOPPERS = 300


@pytest.fixture
def store(embedded_client: Client) -> Iterator[Client]:
    for table in TABLES:
        embedded_client.command(f"TRUNCATE TABLE {table}")
    yield embedded_client
    for table in TABLES:
        embedded_client.command(f"TRUNCATE TABLE {table}")


class Loop:
    """A trainer and a promoter at work, each in a thread; what they did stands in the ledger."""

    def __init__(self, settings: Settings, broker: str, store: Client) -> None:
        self.settings, self.broker, self.store = settings, broker, store
        self.told: list[tuple[str, str]] = []

    def steps(self) -> Sequence[StudentStep]:
        return Ledger(root_of(self.settings)).steps()

    def challenger(self) -> int:
        return route_of(self.steps(), KIND).challenger

    def judge(self, since_ms: int) -> Sequence[Guardrail]:
        now_ms = time.time_ns() // 1_000_000
        return report_since(self.store, self.settings, since_ms=since_ms, now_ms=now_ms).guardrails

    def send(self, seed: int, count: int) -> None:
        sender = producer(self.settings, self.broker)
        for each in judgements(count, seed=seed):
            sender.send(JUDGEMENTS, key=each.query.encode(), value=msgspec.json.encode(each))
        sender.flush(timeout=60)
        sender.close()

    def tell(self, state: str, detail: str) -> None:
        self.told.append((state, detail))

    @contextmanager
    def trainer(self) -> Iterator[None]:
        with _thread(
            lambda stop: run_trainer(
                self.settings, self.broker, stop=stop, on_progress=lambda _: None, fidelity=LOOSE
            )
        ):
            yield

    @contextmanager
    def promoter(self) -> Iterator[None]:
        made = Promoter(self.settings, self.judge)
        with _thread(lambda stop: keep(self.settings, made, stop=stop, tell=self.tell)):
            yield

    def until(self, condition: Callable[[], Any]) -> None:
        until_s = time.monotonic() + WITHIN_S
        while not condition():
            assert time.monotonic() < until_s, f"waited in vain; {self.told[-1:]}, {self.steps()}"
            time.sleep(0.1)

    def score(self, *, treatment: bool) -> Scored:
        """Score as the ad engine does: by the routes that the topic tells."""
        reader = RouteReader(self.settings, self.broker)
        routes = reader.read(within_s=60)
        reader.close()

        async def run() -> Scored:
            client = ScoringClient(
                self.settings,
                routes=lambda: routes,
                vectors=VectorTables(versions_of(self.settings)),
                lexical=lambda query, candidates: [0.5] * len(candidates),
            )
            try:
                return await client.score(
                    "red kettle", [Candidate("a", "red mug"), Candidate("b", "blue mug")], treatment=treatment
                )
            finally:
                await client.close()

        return asyncio.run(run())


@contextmanager
def _thread(work: Callable[[threading.Event], None]) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=partial(work, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=WITHIN_S)
        assert not thread.is_alive()


def _settings(running: Serving, broker: str, tmp_path: Path, first: Path, first_versions: Path) -> Settings:
    tiny = tiny_trainer(
        running.settings.run_dir,
        first,
        write_golden(tmp_path / "golden.jsonl"),
        start_version=1,
        to_treatment=False,
    )
    changed = {
        "kafka": broker,
        "trainer": tiny.trainer,
        "gate": tiny.gate,
        "students": tiny.students,
        "loop": running.settings.loop.model_copy(
            update={"first_versions": first_versions, "check_every_s": 0.2, "guard_every_s": 0.5}
        ),
        # A busy machine is no reason to fall back.
        "scoring": running.settings.scoring.model_copy(update={"deadline_ms": 60_000}),
    }
    return running.settings.model_copy(update=changed)


def _traffic(*, treatment_falls_back: bool, seed: int) -> Traffic:
    traffic, now_ms = Traffic(seed), time.time_ns() // 1_000_000
    for number in range(SHOPPERS):
        arm = ("control", "treatment")[number % 2]
        for _ in range(3):
            traffic.search(
                shopper=f"s{number}",
                arm=arm,
                at_ms=now_ms,
                click_share=0.1,
                fallback=treatment_falls_back and arm == "treatment",
            )
    return traffic


def test_a_version_is_promoted_served_and_rolled_back_for_good(
    empty_broker: str, store: Client, tmp_path: Path
) -> None:
    environment_or_skip()
    encoder = write_small_encoder(tmp_path / "encoder")
    first = write_first(tmp_path / "first", encoder)
    with ExitStack() as opened:
        running = opened.enter_context(serving(tmp_path / "run", encoder, SERVING__PARITY="0.2"))
        exported = export_version(
            saved.load(first), versions_of(running.settings), pairs=PAIRS, now_ms=1, limits=LOOSE
        )
        shutil.copytree(exported, tmp_path / "versions" / exported.name)
        settings = _settings(running, empty_broker, tmp_path, first, tmp_path / "versions")
        ensure_topics(settings, empty_broker, TOPICS)
        loop = Loop(settings, empty_broker, store)
        with loop.promoter():
            loop.until(lambda: len(loop.steps()) == 2)
            assert [(step.step, step.pinned) for step in loop.steps()] == [
                ("published", False),
                ("pinned", True),
            ]
            loop.send(seed=1, count=240)
            with loop.trainer():
                loop.until(loop.challenger)
            promoted = loop.challenger()
            loop.until(lambda: loop.told[-1][0] == "ready" and f"treatment {promoted}" in loop.told[-1][1])
            named = [step.step for step in loop.steps() if step.version == promoted]
            assert named == ["published", "promoted"]
            control, treatment = loop.score(treatment=False), loop.score(treatment=True)
            assert (control.student_version, treatment.student_version) == (
                "interaction-1",
                f"interaction-{promoted}",
            )
            assert not control.fallback
            assert not treatment.fallback

            # Both arms fall back alike, as on a busy machine, or hardly at all: nothing happens.
            _traffic(treatment_falls_back=False, seed=1).insert(store)
            judged_since_ms = next(step.at_ms for step in loop.steps() if step.step == "promoted")
            assert not any(each.breached for each in loop.judge(judged_since_ms))
            assert loop.challenger() == promoted

            _traffic(treatment_falls_back=True, seed=2).insert(store)
            loop.until(lambda: loop.challenger() != promoted)
            last = [step for step in loop.steps() if step.kind == KIND][-1]
            assert (last.step, last.version, last.champion) == ("rolled_back", promoted, 1)
            assert "scored without the model" in last.decision
            # The ledger is written before the routes are told.
            loop.until(lambda: loop.score(treatment=True).student_version == "interaction-1")
            # Some looks later it is still off.
            looks = len(loop.told)
            loop.until(lambda: len(loop.told) > looks + 5)
            assert promoted != loop.challenger()
            assert [step.step for step in loop.steps() if step.version == promoted] == [
                "published",
                "promoted",
                "rolled_back",
            ]
        # Begun anew it finds all done, and publishes nothing a second time.
        before = loop.steps()
        with loop.promoter():
            looks = len(loop.told)
            loop.until(lambda: len(loop.told) > looks + 2)
        assert loop.steps() == before
