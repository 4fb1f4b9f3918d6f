"""The trainer on a real broker, killed, disk full, checkpoint damaged, fed garbage: each judgement counts once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaProducer

from ops import heartbeat
from ops.bench.loop_faults import account, log_of
from ops.kafka import consumer, ensure_topics, producer
from ops.settings import Settings
from streams.judgement_identity import identity_of
from streams.records import Judgement, StudentStep
from streams.topics import DEAD_LETTERS, JUDGEMENTS, METRICS_ROWS, STUDENTS, TOPICS
from students.grades import ESCI
from students.incremental import checkpoint as checkpoints
from students.incremental import lineage as lineages
from students.incremental.golden import read_golden
from students.incremental.lineage import Lineage
from students.incremental.progress import Progress
from students.incremental.rebuild import kafka_log, rebuild
from students.incremental.trainer import folder_of, run_trainer
from students.publishing.repository import versions_of
from students.version_folder import verify
from tests.integration.conftest import ROOT
from tests.integration.trainer_test_process import LOOSE, settings_of
from tests.students.incremental.samples import judgements, write_first, write_golden
from tests.students.samples import write_small_encoder

pytestmark = pytest.mark.integration


class Place:
    """A trainer's settings, its files and its topic."""

    def __init__(self, broker: str, tmp_path: Path) -> None:
        first = write_first(tmp_path / "start", write_small_encoder(tmp_path / "encoder"))
        golden = write_golden(tmp_path / "golden.jsonl")
        self.settings: Settings = settings_of(broker, tmp_path / "run", first, golden)
        self.arguments = [broker, str(tmp_path / "run"), str(first), str(golden)]
        self.folder = folder_of(self.settings)
        ensure_topics(self.settings, broker, TOPICS)
        self.broker = broker
        self.sent: set[str] = set()

    def send(self, sender: KafkaProducer, some: list[Judgement]) -> None:
        """Send judgements and remember their identities."""
        for each in some:
            sender.send(JUDGEMENTS, key=each.query.encode(), value=msgspec.json.encode(each))
            self.sent.add(identity_of(each))
        sender.flush(timeout=30)

    def records(self) -> list[Lineage]:
        """Return the records of all updates."""
        return lineages.records_of(self.folder)

    def used(self) -> list[str]:
        """Return the identities that updates took, of those that were sent here."""
        return [
            identity
            for each in self.records()
            for identity in (*each.used, *each.held_out)
            if identity in self.sent
        ]

    @contextmanager
    def process(self, *, largest_file: int = 0) -> Iterator[subprocess.Popen[str]]:
        """Start a trainer; it is killed on the way out."""
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.integration.trainer_test_process",
                *self.arguments,
                str(largest_file),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    @contextmanager
    def thread(self) -> Iterator[Progress]:
        """Run a trainer in this process."""
        stop, seen = threading.Event(), Progress()

        def note(now: Progress) -> None:
            for name in Progress.__slots__:
                setattr(seen, name, getattr(now, name))

        thread = threading.Thread(
            target=run_trainer,
            args=(self.settings, self.broker),
            kwargs={"stop": stop, "on_progress": note, "fidelity": LOOSE},
        )
        thread.start()
        try:
            yield seen
        finally:
            stop.set()
            thread.join(timeout=120)
            assert not thread.is_alive()


def _wait_for_line(process: subprocess.Popen[str], start: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(start):
            return line
    raise AssertionError(f"the trainer ended and never said {start!r}")


def _until(condition: Callable[[], bool], *, within_s: float = 300) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.02)


def _read_all(bootstrap: str, topic: str) -> list[Any]:
    with contextlib.closing(consumer(Settings(), bootstrap, topic, consumer_timeout_ms=3000)) as reading:
        return list(reading)


def test_killed_damaged_or_fed_garbage_it_uses_every_judgement_once(
    empty_broker: str, tmp_path: Path
) -> None:
    place = Place(empty_broker, tmp_path)
    sender = producer(place.settings, empty_broker)

    def saved() -> str:
        found = checkpoints.numbered(place.folder)
        return found[-1].name if found else ""

    place.send(sender, judgements(200, seed=21))
    with place.process() as process:
        # In the middle of the first update.
        _wait_for_line(process, "step ")
    assert saved() in ("", "000000")
    for seed in (22, 23):
        place.send(sender, judgements(100, seed=seed))
        with place.process() as process:
            # As soon as a checkpoint is there: before its record, the commit and the export.
            before = saved()
            _until(lambda before=before: saved() not in (before, "000000"))  # type: ignore[misc]
    garbage = [b"{broken", b"", b'{"query": 3}', b"\xff\xfe"]
    for value in garbage:
        sender.send(JUDGEMENTS, key=b"garbage", value=value)
    place.send(sender, judgements(40, seed=22))
    with place.process() as process:
        _wait_for_line(process, "update ")

    # The latest checkpoint is damaged: the one before it is gone on from.
    weights = checkpoints.numbered(place.folder)[-1] / "champion" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-20])
    place.send(sender, judgements(60, seed=24))
    with place.thread() as progress:
        _until(lambda: place.sent <= set(place.used()))
        _until(lambda: progress.dead_letters >= len(garbage))
        assert progress.champion > 0
        _until(lambda: lineages.published_of(place.folder, progress.champion) is not None)
        time.sleep(1)
    sender.close()
    assert progress.trouble == ""
    used = place.used()
    assert len(used) == len(set(used)) == len(place.sent) == 460
    assert sum(each.duplicates for each in place.records()) >= 40
    damaged = list((place.folder / checkpoints.FOLDER).glob("damaged-*"))
    assert len(damaged) == 1

    letters = [record for record in _read_all(empty_broker, DEAD_LETTERS) if record.key == b"garbage"]
    assert {letter.value for letter in letters} >= set(garbage) - {b""}
    assert {dict(letter.headers)["reason"] for letter in letters} == {b"not_a_judgement"}

    published = [
        found
        for path in sorted((place.folder / "published").glob("??????.json"))
        if (found := lineages.published_of(place.folder, int(path.stem)))
    ]
    assert {each.step for each in published} == {"exported"}
    last = published[-1]
    manifest = verify(versions_of(place.settings) / str(last.version))
    assert manifest.gate["update"] == last.update
    assert manifest.offsets == lineages.lineage_of(place.folder, last.update).offsets
    steps = [
        msgspec.json.decode(record.value, type=StudentStep) for record in _read_all(empty_broker, STUDENTS)
    ]
    assert [(step.step, step.version) for step in steps if step.version == last.version] == [
        ("exported", last.version)
    ]
    rows = [
        msgspec.json.decode(line)
        for record in _read_all(empty_broker, METRICS_ROWS)
        if dict(record.headers)["table"] == b"student_updates"
        for line in record.value.splitlines()
    ]
    assert {row["update_id"] for row in rows} >= {last.update}
    assert f"interaction-{last.version}" in {row["student_version"] for row in rows}

    # From the log on the broker, the same weights.
    with contextlib.closing(consumer(place.settings, empty_broker)) as reading:
        assert place.settings.gate.golden is not None
        again = rebuild(
            place.folder,
            lineages.update_of(place.folder, last.version),
            log=kafka_log(reading),
            golden=read_golden(place.settings.gate.golden, ESCI),
            say=lambda _: None,
        )
    assert again.same
    assert again.close


def test_what_waits_in_the_topic_is_learned_in_one_update(empty_broker: str, tmp_path: Path) -> None:
    place = Place(empty_broker, tmp_path)
    sender = producer(place.settings, empty_broker)
    place.send(sender, judgements(200, seed=31))
    assert place.settings.trainer.update_judgements < 50
    with place.thread():
        _until(lambda: len(place.records()) >= 1)
        place.send(sender, judgements(60, seed=32))
        _until(lambda: place.sent <= set(place.used()))
    sender.close()
    first = place.records()[0]
    assert len(first.used) + len(first.held_out) + first.golden_judgements == 200
    with contextlib.closing(consumer(place.settings, empty_broker)) as reading:
        found = account(place.records(), log_of(reading), scale=ESCI, golden=frozenset())
    assert (found.in_topic, found.taken) == (260, 260)
    assert (found.waiting, found.twice, found.left_out, found.gaps) == (0, 0, 0, 0)


def test_a_full_disk_is_told_and_damages_nothing(empty_broker: str, tmp_path: Path) -> None:
    place = Place(empty_broker, tmp_path)
    sender = producer(place.settings, empty_broker)
    place.send(sender, judgements(100, seed=31))
    with place.thread():
        _until(lambda: place.sent <= set(place.used()))
    before = [path.name for path in checkpoints.numbered(place.folder)]
    place.send(sender, judgements(60, seed=32))
    weights = place.folder / checkpoints.FIRST / "model.safetensors"
    with place.process(largest_file=weights.stat().st_size // 2) as process:
        line = _wait_for_line(process, "[Errno 27]")
        assert "File too large" in line
        assert "failed 1 times, next try in" in line
        assert process.poll() is None
    assert [path.name for path in checkpoints.numbered(place.folder)] == before
    assert checkpoints.read(checkpoints.numbered(place.folder)[-1]).state.saved == int(before[-1])
    with place.thread() as progress:
        _until(lambda: place.sent <= set(place.used()))
    assert progress.trouble == ""
    sender.close()
    used = place.used()
    assert len(used) == len(set(used)) == 160


def test_follow_beats_stops_and_goes_back_where_serving_refuses(empty_broker: str, tmp_path: Path) -> None:
    place = Place(empty_broker, tmp_path)
    sender = producer(place.settings, empty_broker)
    place.send(sender, judgements(240, seed=41))
    sender.close()
    trainer, gate = place.settings.trainer, place.settings.gate
    given = {
        "RELEVANCE_KAFKA": empty_broker,
        "RELEVANCE_STUDENTS__PRECISION": "fp32",
        "RELEVANCE_STUDENTS__FROZEN_EMBEDDINGS": "false",
        "RELEVANCE_STUDENTS__BATCH_PAIRS": "8",
        **{
            f"RELEVANCE_TRAINER__{name.upper()}": str(value)
            for name, value in trainer.model_dump(exclude={"start", "labels", "update_judgements"}).items()
        },
        "RELEVANCE_TRAINER__UPDATE_JUDGEMENTS": "120",
        **{
            f"RELEVANCE_GATE__{name.upper()}": str(value)
            for name, value in gate.model_dump(exclude={"golden"}).items()
        },
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RELEVANCE_")}
    command = ["--run-dir", str(place.settings.run_dir), "students", "follow"]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "ops.cli.main",
            *command,
            "--start",
            str(trainer.start),
            "--golden",
            str(gate.golden),
        ],
        cwd=ROOT,
        env=kept | given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:

        def beat() -> dict[str, float]:
            found = heartbeat.read(place.settings.run_dir, "trainer")
            return found.counters if found else {}

        # The export's own limits: a tiny student's order does not survive int8, or it does; both are delivered.
        _until(
            lambda: beat().get("passed", 0) >= 1 and bool(list((place.folder / "published").glob("*.json")))
        )
        _until(lambda: place.sent <= set(place.used()))
        _until(lambda: beat()["judgements"] + beat()["held_out"] >= 240)
        counters = beat()
        assert counters["update_s"] > 0
        assert counters["judged_to_trained_s"] > 0
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, output
    assert "stopped; the same command goes on from the last checkpoint" in output
    assert "at the gate" in output
    newest = checkpoints.newest(place.folder, lambda _: None)
    assert newest is not None
    first = sorted((place.folder / "published").glob("??????.json"))[0]
    delivered = lineages.published_of(place.folder, int(first.stem))
    assert delivered is not None
    if delivered.step == "refused":
        assert "rank correlation" in delivered.why or "int8" in delivered.why
        assert newest.state.champion != delivered.update
    else:
        assert verify(versions_of(place.settings) / str(delivered.version)).gate["update"] == delivered.update
