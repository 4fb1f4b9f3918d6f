from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest

from streams.patient_fetching import PAUSE_S, SMALL_BYTES, patient


class Broker:
    """Answers at once, each answer with the next of `sizes` bytes; its clock moves only while somebody sleeps."""

    def __init__(self, *sizes: int) -> None:
        self.now_s, self.sizes = 0.0, list(sizes)
        self.asked_s: list[tuple[int, float]] = []
        self.send = patient(self._send, clock_s=lambda: self.now_s, sleep=self._sleep)

    async def _send(self, node_id: int, request: Any) -> Any:
        self.asked_s.append((node_id, self.now_s))
        size = self.sizes.pop(0)
        halves = [(0, 0, 9, b"x" * (size // 2)), (1, 0, 9, b"x" * (size - size // 2))]
        return SimpleNamespace(topics=[("events", halves)] if size else [])

    async def _sleep(self, seconds: float) -> None:
        self.now_s += seconds


def fetch() -> FetchRequest:
    return FetchRequest(500, 1, 1000, 0, [("events", [(0, 0, 1000)])])


def test_after_a_small_answer_the_next_fetch_waits() -> None:
    broker = Broker(0, 100, SMALL_BYTES, 0)

    async def ask() -> None:
        for _ in range(4):
            await broker.send(1, fetch())

    asyncio.run(ask())
    assert [at_s for _, at_s in broker.asked_s] == [0, PAUSE_S, 2 * PAUSE_S, 2 * PAUSE_S], (
        "a backlog is not waited for"
    )


def test_other_nodes_and_other_requests_do_not_wait() -> None:
    broker = Broker(0, 0, 0)

    async def ask() -> None:
        await broker.send(1, fetch())
        await broker.send(2, fetch())
        await broker.send(1, MetadataRequest([]))

    asyncio.run(ask())
    assert broker.asked_s == [(1, 0), (2, 0), (1, 0)]
