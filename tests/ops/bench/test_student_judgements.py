"""Judgements for the students' benches from a running endpoint: asked once, written for both uses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from ops.bench import student_answers
from ops.bench.student_answers import graded, judged
from ops.bench.student_judgements import main
from tests.teacher.endpoint import MODEL, Endpoint, serving


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """An endpoint in a thread of its own: the script has its own event loop."""
    endpoint, started, stop = Endpoint(), threading.Event(), threading.Event()

    async def serve() -> None:
        async with serving(endpoint):
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(20)
    yield endpoint
    stop.set()
    thread.join(20)


def test_pairs_are_judged_once(endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--url", endpoint.url, "--model", MODEL, "--set", "shop", "--out", str(tmp_path)]
    arguments += ["--pairs", "8", "--eval-queries", "6", "--eval-per-query", "2"]
    told = CliRunner().invoke(main, arguments)
    assert told.exit_code == 0, told.output
    train, held_out = student_answers.read(tmp_path, "shop")
    assert len(train) == 8
    assert len(held_out) == 12
    examples = judged(train)
    assert examples[0].grade == "S"
    assert examples[0].distribution == pytest.approx((0.2, 0.6, 0.1, 0.1))
    assert not {each.query for each in examples} & {pair.query for pair in graded(held_out)}
    asked = len(endpoint.asked)
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 0, again.output
    # The probe alone asks again.
    assert len(endpoint.asked) - asked < 8
    assert student_answers.read(tmp_path, "shop") == (train, held_out)
