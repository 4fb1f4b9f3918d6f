"""The teacher's worker between a real broker and a server that stands in for vLLM: what is judged, once, and what
kills, garbage and a teacher that goes away leave of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaProducer

from ops import heartbeat
from ops.kafka import ensure_topics, producer
from ops.settings import Settings
from ops.stack.ports import free_port
from ops.teacher_process import run as run_part
from streams.item_text import content_hash
from streams.records import Judgement, Pair
from streams.rows import from_message
from streams.topics import DEAD_LETTERS, JUDGEMENTS, METRICS_ROWS, PAIRS, TOPICS
from teacher import worker as worker_module
from teacher.progress import Progress
from teacher.worker import run_worker
from tests.integration.conftest import ROOT
from tests.integration.kafka_topics import commit_to_the_end, read_all, until
from tests.integration.teacher_worker_process import settings_of
from tests.teacher.endpoint import Endpoint, completion, says, serving, status

pytestmark = pytest.mark.integration

HOUR_MS = 3_600_000


class Teacher:
    """A server in a thread; `endpoint` is what it does and was asked. May be ended and started again."""

    def __init__(self, *, delay_s: float = 0.02) -> None:
        self.endpoint = Endpoint(delay_s=delay_s)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._stop = threading.Event()
        self._thread = threading.Thread()

    def start(self) -> None:
        """Serve until `end`."""
        self._stop.clear()
        up = threading.Event()

        async def serve() -> None:
            async with serving(self.endpoint, port=self.port):
                up.set()
                while not self._stop.is_set():
                    await asyncio.sleep(0.02)

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()))
        self._thread.start()
        assert up.wait(120)

    def end(self) -> None:
        """End the server; the connections it has are closed."""
        self._stop.set()
        self._thread.join(30)

    def asked_of(self, prefix: str) -> Counter[str]:
        """Return how often each query that begins so was asked about."""
        asked: Counter[str] = Counter()
        for body in list(self.endpoint.asked):
            lines = body["messages"][-1]["content"].split("\n")
            asked.update(line for line in lines if line.startswith(prefix))
        return asked


@pytest.fixture
def teacher() -> Iterator[Teacher]:
    one = Teacher()
    one.start()
    yield one
    one.end()


@contextmanager
def worker(settings: Settings, bootstrap: str, *, number: int = 1) -> Iterator[Progress]:
    stop = threading.Event()
    progress = Progress()

    def note(now: Progress) -> None:
        for name in Progress.__slots__:
            setattr(progress, name, getattr(now, name))

    thread = threading.Thread(
        target=run_worker,
        args=(settings, bootstrap),
        kwargs={"number": number, "stop": stop, "on_progress": note},
    )
    thread.start()
    try:
        yield progress
    finally:
        stop.set()
        thread.join(timeout=60)
        assert not thread.is_alive()


def pair(name: str, *, later_ms: int = 0, deadline_in_ms: int = HOUR_MS, **other: Any) -> Pair:
    text = f"Kettle for {name}"
    now_ms = time.time_ns() // 1_000_000
    known: dict[str, Any] = {
        "query": name,
        "item_id": "kettle",
        "item_text": text,
        "content_hash": content_hash(text),
        "reasons": {"priority": 0.5},
        "sampled_ms": now_ms + later_ms,
        "deadline_ms": now_ms + deadline_in_ms,
        "traffic_class": "tail",
    }
    return Pair(**(known | other))


def send(sender: KafkaProducer, *pairs: Pair | bytes | None, key: bytes = b"") -> None:
    for one in pairs:
        raw = msgspec.json.encode(one) if isinstance(one, Pair) else one
        of_query = one.query.encode() if isinstance(one, Pair) else b"garbage"
        sender.send(PAIRS, key=key or of_query, value=raw)
    sender.flush(timeout=30)


def judgements(bootstrap: str, prefix: str) -> dict[str, set[bytes]]:
    """Return the judgements as they lie on the topic, by query, for the queries that begin so."""
    found: dict[str, set[bytes]] = {}
    for record in read_all(bootstrap, JUDGEMENTS):
        if (record.key or b"").decode().startswith(prefix):
            found.setdefault(record.key.decode(), set()).add(record.value)
    return found


def from_here(settings: Settings, bootstrap: str) -> None:
    """Leave out what other tests have left on the topic."""
    commit_to_the_end(bootstrap, PAIRS, group=settings.teacher_worker.group)


@pytest.fixture
def sender(broker: str) -> Iterator[KafkaProducer]:
    ensure_topics(Settings(), broker, TOPICS)
    client = producer(Settings(), broker)
    yield client
    client.close()


def test_pairs_become_judgements_rows_and_nothing_else(
    broker: str, sender: KafkaProducer, teacher: Teacher, tmp_path: Path
) -> None:
    settings = settings_of(str(tmp_path), teacher.url, group="test-worker")
    from_here(settings, broker)
    twice = pair("plain twice")
    send(sender, *(pair(f"plain {number}") for number in range(20)), twice, twice)
    with worker(settings, broker) as progress:
        until(lambda: progress.published >= 21 and progress.lag == 0)
        # Asked for again when it has been judged: what is known is sent again, at no cost.
        send(sender, twice)
        until(lambda: progress.known >= 1 and progress.lag == 0)
        time.sleep(2)
    found = judgements(broker, "plain ")
    assert sorted(found) == sorted({"plain twice", *(f"plain {number}" for number in range(20))})
    assert {len(values) for values in found.values()} == {1}
    assert set(teacher.asked_of("plain ").values()) == {1}
    (value,) = found["plain 3"]
    judgement = msgspec.json.decode(value, type=Judgement)
    assert (judgement.query, judgement.item_text, judgement.grade) == ("plain 3", "Kettle for plain 3", "S")
    assert (judgement.traffic_class, judgement.sampled_ms > 0) == ("tail", True)
    assert sum(judgement.grades.values()) == pytest.approx(1)
    blocks = [from_message(record.headers, record.value) for record in read_all(broker, METRICS_ROWS)]
    rows = [
        msgspec.json.decode(each) for b in blocks if b.table == "judgements" for each in b.lines.splitlines()
    ]
    assert {row["query"] for row in rows if row["query"].startswith("plain ")} == set(found)
    assert (progress.trouble, progress.waits_for, progress.dead_letters) == ("", "", 0)
    assert progress.completion_tokens > 0
    assert progress.counters()["published"] >= 22
    # All is committed: a second worker finds nothing to do.
    with worker(settings, broker) as progress:
        time.sleep(3)
    assert (progress.records, progress.trouble) == (0, "")


def test_garbage_and_refusals_become_dead_letters_and_disturb_nothing(
    broker: str, sender: KafkaProducer, teacher: Teacher, tmp_path: Path
) -> None:
    settings = settings_of(str(tmp_path), teacher.url, group="test-worker-garbage")
    from_here(settings, broker)
    refused = pair("garbage refused")
    teacher.endpoint.answers_about["garbage refused"] = says(completion("the sea is blue"))
    teacher.endpoint.answers_about["garbage poison"] = status(500)
    send(
        sender,
        pair("garbage poison"),
        b"{worker garbage",
        None,
        b"\xff\xfe",
        msgspec.json.encode({"query": "worker garbage"}),
        pair("garbage query empty", query=""),
        pair("garbage of other text", content_hash="0" * 16),
        pair("garbage too long", item_text="x" * 20_000, content_hash=content_hash("x" * 20_000)),
        refused,
        pair("garbage unreadable", query="\u200b\u200b"),
        *(pair(f"garbage beside {number}") for number in range(5)),
    )
    with worker(settings, broker) as progress:
        until(lambda: progress.published >= 5 and progress.dead_letters >= 10 and progress.lag == 0)
    mine = [
        record
        for record in read_all(broker, DEAD_LETTERS)
        if dict(record.headers).get("source-topic") == PAIRS.encode()
    ]
    reasons = Counter(dict(record.headers)["reason"].decode() for record in mine)
    assert reasons["not_a_pair"] >= 4
    assert reasons["wrong_length"] == 2
    assert reasons["wrong_content_hash"] == 1
    assert reasons["teacher_unfit_text"] == 1
    # It had no answer while the others had.
    assert reasons["teacher_unavailable"] == 1
    assert reasons["teacher_no_grade"] + reasons["teacher_bad_line"] == 1
    assert b"{worker garbage" in {record.value for record in mine}
    # Asked for once more before it was given up.
    assert teacher.asked_of("garbage refused")["garbage refused"] == settings.teacher_worker.attempts
    found = judgements(broker, "garbage ")
    assert sorted(found) == [f"garbage beside {number}" for number in range(5)]
    blocks = [from_message(record.headers, record.value) for record in read_all(broker, METRICS_ROWS)]
    refusals = b"".join(block.lines for block in blocks if block.table == "teacher_refusals")
    assert b"garbage refused" in refusals


def test_the_freshest_pairs_are_judged_first_and_late_ones_not_at_all(
    broker: str, sender: KafkaProducer, teacher: Teacher, tmp_path: Path
) -> None:
    settings = settings_of(str(tmp_path), teacher.url, group="test-worker-fresh", concurrency=1)
    from_here(settings, broker)
    order = [3, 0, 4, 1, 2]
    late = [pair(f"fresh late {number}", deadline_in_ms=-1) for number in range(3)]
    # In one partition, so that they are read together.
    send(sender, *late, *(pair(f"fresh {number}", later_ms=1000 * number) for number in order), key=b"fresh")
    with worker(settings, broker) as progress:
        until(lambda: progress.published >= 5 and progress.lag == 0)
    assert progress.expired == 3
    assert list(teacher.asked_of("fresh ")) == [f"fresh {number}" for number in (4, 3, 2, 1, 0)]


def test_a_worker_that_is_killed_loses_nothing_and_judges_nothing_twice(
    broker: str, sender: KafkaProducer, teacher: Teacher, tmp_path: Path
) -> None:
    group = "test-worker-killed"
    from_here(settings_of(str(tmp_path), teacher.url, group=group), broker)
    teacher.endpoint.delay_s = 0.05
    total = 300
    send(sender, *(pair(f"killed worker {number}") for number in range(total)))
    kills = 0
    while kills < 3:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.integration.teacher_worker_process",
                broker,
                str(tmp_path),
                teacher.url,
                "1",
                "1",
                group,
            ],
            cwd=ROOT,
        )
        before = len(teacher.asked_of("killed worker "))
        until(lambda before=before: len(teacher.asked_of("killed worker ")) >= before + 40)  # type: ignore[misc]
        process.kill()
        process.wait()
        kills += 1
    assert len(teacher.asked_of("killed worker ")) < total
    with worker(settings_of(str(tmp_path), teacher.url, group=group), broker) as progress:
        until(lambda: progress.lag == 0)
    found = judgements(broker, "killed worker ")
    assert len(found) == total
    # Published again at most, as it was.
    assert {len(values) for values in found.values()} == {1}
    # Asked again only what had no answer yet: what was open at each kill.
    asked = teacher.asked_of("killed worker ")
    assert len(asked) == total
    assert asked.total() - total <= kills * 4


def test_a_teacher_that_is_away_is_waited_for(
    broker: str, sender: KafkaProducer, teacher: Teacher, tmp_path: Path
) -> None:
    settings = settings_of(str(tmp_path), teacher.url, group="test-worker-away")
    from_here(settings, broker)
    teacher.endpoint.delay_s = 0.1
    send(sender, *(pair(f"away {number}") for number in range(80)))
    with worker(settings, broker) as progress:
        until(lambda: progress.published >= 10)
        teacher.end()
        until(lambda: progress.waits_for != "")
        stood = progress.published
        send(sender, b"{away garbage", *(pair(f"away later {number}") for number in range(10)))
        # Garbage is dealt with meanwhile, and what nobody waits for any more is let go.
        send(sender, pair("away late", deadline_in_ms=1))
        until(lambda: progress.dead_letters >= 1 and progress.expired >= 1)
        assert progress.published == stood
        teacher.start()
        until(lambda: progress.published >= 90 and progress.lag == 0)
    assert progress.waits_for == ""
    assert len(judgements(broker, "away ")) == 90
    assert progress.refused.total() == progress.refused["unavailable"]


def test_a_server_with_another_model_is_noticed(
    broker: str, sender: KafkaProducer, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "ASK_WHO_EVERY_S", 1.0)
    settings = settings_of(str(tmp_path), teacher.url, group="test-worker-other")
    from_here(settings, broker)
    teacher.endpoint.root = "/models/first"
    send(sender, pair("other model"))
    with worker(settings, broker) as progress:
        until(lambda: progress.published == 1)
        teacher.endpoint.root = "/models/second"
        time.sleep(3)
        send(sender, pair("other model"))
        until(lambda: progress.published == 2)
    values = judgements(broker, "other model")["other model"]
    teachers = {msgspec.json.decode(value, type=Judgement).teacher_id for value in values}
    assert teachers == {"relevance-teacher@first", "relevance-teacher@second"}
    assert (progress.away, progress.waits_for) == (0, "")


def test_two_workers_share_the_pairs(
    broker: str, sender: KafkaProducer, teacher: Teacher, tmp_path: Path
) -> None:
    settings = settings_of(str(tmp_path), teacher.url, workers=2, group="test-worker-two")
    from_here(settings, broker)
    send(sender, *(pair(f"shared {number}") for number in range(120)))
    with worker(settings, broker) as first, worker(settings, broker, number=2) as second:
        until(
            lambda: first.published + second.published >= 120 and (first.lag, second.lag) == (0, 0),
        )
    assert min(first.published, second.published) >= 20
    assert first.published + second.published >= 120
    assert len(judgements(broker, "shared ")) == 120
    assert set(teacher.asked_of("shared ").values()) == {1}


def test_the_part_beats_and_waits_where_there_is_no_teacher(broker: str, tmp_path: Path) -> None:
    ensure_topics(Settings(), broker, TOPICS)
    settings = Settings.model_validate(
        {"run_dir": str(tmp_path), "teacher_worker": {"group": "test-worker-none"}}
    )
    stop = threading.Event()
    part = threading.Thread(target=run_part, args=(settings, broker), kwargs={"number": 1, "stop": stop})
    part.start()

    def sign() -> heartbeat.Heartbeat | None:
        return heartbeat.read(tmp_path, "teacher-worker-1")

    until(lambda: (found := sign()) is not None and "no teacher: start the local one" in found.detail)
    found = sign()
    assert found is not None
    assert found.state == "ready"
    assert "judged_per_s" in found.counters
    stop.set()
    part.join(60)
    assert not part.is_alive()


def test_a_number_beyond_the_workers_is_refused(broker: str) -> None:
    with pytest.raises(ValueError, match="expected a worker from 1 to 1"):
        run_worker(Settings(), broker, number=2, stop=threading.Event(), on_progress=lambda _: None)
