"""One call: tried again only where that helps, within its deadline, hedged if set."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from ops.scoring.calls import Calls
from ops.serving.connection import TritonError
from ops.settings import Settings


class Server:
    """Answers each call with the next of `answers`: a status to fail with, or seconds to wait before an answer."""

    def __init__(self, answers: list[str | float]) -> None:
        self.answers = answers
        self.asked: list[dict[str, Any]] = []

    async def infer(self, model: str, inputs: Any, **options: Any) -> Any:
        self.asked.append(options)
        answer = self.answers.pop(0)
        if isinstance(answer, str):
            raise InferenceServerException("no", status=f"StatusCode.{answer}")
        await asyncio.sleep(answer)
        return self

    def as_numpy(self, name: str) -> np.ndarray:
        return np.array([len(self.asked)])

    async def close(self) -> None:
        return


def infer(server: Server, *, within_s: float = 5.0, **scoring: Any) -> tuple[Any, Calls]:
    settings = Settings.model_validate({"triton": "127.0.0.1:1", "scoring": scoring})

    async def run() -> tuple[Any, Calls]:
        calls = Calls(settings)
        await calls._client.close()
        calls._client = server
        until_s = time.monotonic() + within_s
        try:
            return await calls.infer("m", 1, {"X": np.zeros(1)}, output="Y", until_s=until_s), calls
        except TritonError as error:
            return error.code, calls

    return asyncio.run(run())


def test_what_may_pass_is_tried_again() -> None:
    server = Server(["UNAVAILABLE", "RESOURCE_EXHAUSTED", 0.0])
    answer, calls = infer(server)
    assert answer == [3]
    assert calls.counters == {"calls": 3, "retries": 2, "error_UNAVAILABLE": 1, "error_RESOURCE_EXHAUSTED": 1}
    timeouts = [each["timeout"] for each in server.asked]
    assert timeouts == sorted(timeouts, reverse=True)
    assert all(0 < each["client_timeout"] <= 5 for each in server.asked)


@pytest.mark.parametrize(
    ("answers", "scoring", "code", "calls"),
    [
        (["INVALID_ARGUMENT"], {}, "INVALID_ARGUMENT", 1),
        (["DEADLINE_EXCEEDED"], {}, "DEADLINE_EXCEEDED", 1),
        (["INTERNAL"], {}, "INTERNAL", 1),
        (["UNAVAILABLE"] * 3, {}, "UNAVAILABLE", 3),
        (["UNAVAILABLE"] * 3, {"attempts": 1}, "UNAVAILABLE", 1),
    ],
)
def test_what_will_not_pass_is_not(
    answers: list[str | float], scoring: dict[str, Any], code: str, calls: int
) -> None:
    found, made = infer(Server(answers), **scoring)
    assert found == code
    assert made.counters["calls"] == calls


def test_what_has_waited_is_not_tried_again() -> None:
    class Busy(Server):
        async def infer(self, model: str, inputs: Any, **options: Any) -> Any:
            await asyncio.sleep(0.1)
            return await super().infer(model, inputs, **options)

    server = Busy(["UNAVAILABLE", 0.0])
    found, calls = infer(server, within_s=0.3)
    assert found == "UNAVAILABLE"
    assert calls.counters["calls"] == 1
    # Half of the time is for the queue.
    assert 100_000 < server.asked[0]["timeout"] <= 150_000


def test_no_try_begins_after_the_deadline() -> None:
    found, calls = infer(Server(["UNAVAILABLE"] * 9), within_s=0.003, attempts=9)
    assert found == "UNAVAILABLE"
    assert calls.counters["calls"] == 1
    found, calls = infer(Server([]), within_s=0.0)
    assert found == "DEADLINE_EXCEEDED"
    assert calls.counters["calls"] == 0


@pytest.mark.parametrize(
    ("answers", "hedge_after_ms", "answered", "hedges"),
    [([0.5, 0.0], 10, 2, 1), ([0.0], 50, 1, 0), ([0.05], 0, 1, 0), (["UNAVAILABLE", 0.0], 50, 2, 0)],
)
def test_a_slow_call_is_overtaken_by_its_hedge(
    answers: list[str | float], hedge_after_ms: float, answered: int, hedges: int
) -> None:
    began_s = time.monotonic()
    found, calls = infer(Server(answers), hedge_after_ms=hedge_after_ms)
    assert found == [answered]
    assert calls.counters["hedges"] == hedges
    assert time.monotonic() - began_s < 0.45
