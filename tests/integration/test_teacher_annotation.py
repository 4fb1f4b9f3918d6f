"""Kill tests of `relevance teacher annotate`: against stand-in servers (`annotation_server`), not real models.

The same against real vLLM servers is `python -m ops.bench.teacher_annotation`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import pytest

from ops.stack.ports import free_port
from teacher.annotation.ledger import Key
from teacher.annotation.pairs import read
from teacher.annotation.run import seed_of
from teacher.examples import read as read_examples
from teacher.prompt import user_message
from tests.integration.conftest import ROOT

pytestmark = pytest.mark.integration

PAIRS = 500
SAMPLES = 2
CONCURRENCY = 8
LABELS = ("E", "S", "C", "I")


class StandIn:
    """A stand-in server that can be killed and started again on its port."""

    def __init__(self, model: str, folder: Path) -> None:
        self.model = model
        self.port = free_port()
        self.log = folder / f"{model}.log"
        self.log.touch()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def option(self) -> str:
        return f"{self.model}=http://127.0.0.1:{self.port}/v1#{self.model}-model"

    def start(self) -> None:
        arguments = [str(self.port), f"{self.model}-model", str(self.log)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.annotation_server", *arguments], cwd=ROOT
        )
        until_s = time.monotonic() + 180
        while True:
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port)):
                return
            assert time.monotonic() < until_s
            time.sleep(0.05)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def answered(self) -> Counter[tuple[str, int]]:
        """Count the answers by user's message and seed; a line cut by a kill is none."""
        lines = self.log.read_text().split("\n")[:-1]
        asked = (json.loads(line) for line in lines)
        return Counter((line["message"], line["seed"]) for line in asked)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[StandIn, StandIn]]:
    one, other = StandIn("one", tmp_path), StandIn("other", tmp_path)
    one.start()
    other.start()
    yield one, other
    one.kill()
    other.kill()


def pairs_file(folder: Path, count: int) -> Path:
    path = folder / "pairs.jsonl"
    lines = [
        {
            "query": f"red mug {number}",
            "item_id": f"i{number}",
            "item_text": f"Nova mug number {number}\nbrand: Nova",
            "source": "test",
            **({"grade": LABELS[number % 4]} if number % 5 == 0 else {}),
        }
        for number in range(count)
    ]
    path.write_bytes(msgspec.json.Encoder().encode_lines(lines))
    return path


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RELEVANCE_")}
    arguments = ["teacher", "annotate", str(folder / "pairs.jsonl"), "--out", str(folder / "out"), *options]
    return subprocess.Popen(
        [sys.executable, "-m", "ops.cli.main", "--run-dir", str(folder / "run"), *arguments],
        cwd=ROOT,
        env=environment | {"RELEVANCE_TEACHER__CONCURRENCY": str(CONCURRENCY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], *, code: int = 0) -> str:
    told, _ = process.communicate(timeout=400)
    assert process.returncode == code, told
    return told


def wait_for(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until_s = time.monotonic() + 300
    while not true():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until_s
        time.sleep(0.02)


def recorded(folder: Path) -> set[Key]:
    with closing(sqlite3.connect(folder / "out" / "ledger.sqlite3")) as database:
        return {Key(*row) for row in database.execute("SELECT pair, annotator, sample FROM answers")}


def rules(one: StandIn, other: StandIn) -> tuple[str, ...]:
    return ("--annotator", one.option, "--annotator", other.option, "--samples", str(SAMPLES))


def test_killed_server_and_killed_command_lose_nothing_and_ask_nothing_recorded_again(
    tmp_path: Path, servers: tuple[StandIn, StandIn]
) -> None:
    one, other = servers
    path = pairs_file(tmp_path, PAIRS)
    pairs = {pair.key: pair for pair in read(path, labels=LABELS).pairs}
    first = start(tmp_path, *rules(one, other))
    wait_for(lambda: one.answered().total() > 150, first)
    one.kill()
    time.sleep(2)
    before_restart = one.answered().total()
    one.start()
    wait_for(lambda: one.answered().total() > before_restart + 150, first)
    assert first.poll() is None
    first.kill()
    first.communicate()
    kept_at_kill = recorded(tmp_path)
    assert 0 < len(kept_at_kill) < PAIRS * SAMPLES * 2

    finish(start(tmp_path, *rules(one, other)))

    expected = {
        Key(pair, server.model, sample) for pair in pairs for server in servers for sample in range(SAMPLES)
    }
    assert recorded(tmp_path) == expected
    repeated = 0
    for server in servers:
        answered = server.answered()
        for key in (key for key in expected if key.annotator == server.model):
            pair = pairs[key.pair]
            count = answered[user_message(pair.query, pair.item_text), seed_of(key)]
            assert count >= 1, key
            if key in kept_at_kill:
                assert count == 1 or server is one, key
            repeated += count - 1
        assert len(answered) == PAIRS * SAMPLES
    # Answers on their way when the server or the command was killed, at most one a request in flight.
    assert repeated <= 3 * CONCURRENCY

    account = json.loads((tmp_path / "out" / "account.json").read_text())
    counts = [sum(account[outcome].values()) for outcome in ("kept", "dropped", "review")]
    assert (account["pairs"], account["unanswered"], sum(counts)) == (PAIRS, 0, PAIRS)
    assert account["work"]["one"]["judgements"] == account["work"]["other"]["judgements"] == PAIRS * SAMPLES
    examples = list(read_examples(tmp_path / "out" / "kept.jsonl"))
    assert len(examples) == counts[0] > PAIRS / 4
    assert {example.writer for example in examples} <= {
        "one-model+other-model",
        "other-model+one-model",
    }


def test_people_settle_what_is_left(tmp_path: Path, servers: tuple[StandIn, StandIn]) -> None:
    pairs_file(tmp_path, 60)
    options = rules(*servers)
    told = finish(start(tmp_path, *options))
    assert "pairs for people" in told
    review = tmp_path / "out" / "review.jsonl"
    rows = [json.loads(line) for line in review.read_text().splitlines()]
    with_chain = [row for row in rows if any(view["grade"] for view in row["views"])]
    assert len(with_chain) > 3
    chosen = with_chain[0]
    grade = next(view["grade"] for view in chosen["views"] if view["grade"])
    filled = [row | ({"grade": grade} if row is chosen else {}) for row in rows]
    review.write_bytes(msgspec.json.Encoder().encode_lines(filled))
    assert "holds 1 grades that were not read in" in finish(start(tmp_path, *options), code=1)
    for server in servers:
        server.kill()
    # Nothing is left to ask, so nobody needs to answer.
    finish(start(tmp_path, *options, "--reviewed", str(review), "--person-disagrees", "drop"))
    account = json.loads((tmp_path / "out" / "account.json").read_text())
    assert account["kept"]["reviewed"] == 1
    disagreeing = sum(row["reason"] == "person_disagrees" for row in rows if row is not chosen)
    assert account["dropped"].get("person_disagrees", 0) == disagreeing
    assert sum(account["review"].values()) == len(rows) - 1 - disagreeing


def test_the_arbiter_is_asked_only_where_the_annotators_disagree(
    tmp_path: Path, servers: tuple[StandIn, StandIn]
) -> None:
    pairs_file(tmp_path, 60)
    third = StandIn("third", tmp_path)
    third.start()
    try:
        finish(start(tmp_path, *rules(*servers), "--arbiter", third.option))
    finally:
        third.kill()
    account = json.loads((tmp_path / "out" / "account.json").read_text())
    assert 0 < account["arbitrated"] < 60
    assert third.answered().total() == account["arbitrated"] * SAMPLES
    assert account["kept"]["arbitrated"] > 0


def test_an_endpoint_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    pairs_file(tmp_path, 3)
    told = finish(start(tmp_path, *rules(StandIn("one", tmp_path), StandIn("other", tmp_path))), code=1)
    assert "the list of models cannot be read" in told
    assert "Traceback" not in told


def test_a_second_run_and_changed_settings_are_told(tmp_path: Path, servers: tuple[StandIn, StandIn]) -> None:
    pairs_file(tmp_path, PAIRS)
    one, _ = servers
    first = start(tmp_path, *rules(*servers))
    wait_for(lambda: one.answered().total() > 20, first)
    assert "another run uses this ledger" in finish(start(tmp_path, *rules(*servers)), code=1)
    first.send_signal(signal.SIGINT)
    told = finish(first, code=130)
    assert "the same command goes on from here" in told
    assert "Traceback" not in told
    told = finish(start(tmp_path, *rules(*servers), "--temperature", "1.5"), code=1)
    assert "annotator one: policy, prompt, max_tokens or temperature changed" in told
    assert "give another --out" in told
