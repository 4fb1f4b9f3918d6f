"""Batches of events under our own acknowledgement: an event is acknowledged once its batch is done, never before.

Faust's `take` acknowledges what it handed out even when the consumer of the batch failed or was cancelled, so a
crash in mid-batch would lose events. Here a failed batch ends the process, and Kafka delivers it again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

logger = logging.getLogger(__name__)

#: Exit status after a batch that could not be finished (sysexits' EX_SOFTWARE).
FAILED_BATCH = 70


class Batches:
    """Collects events and hands them, in order and one batch at a time, to `process`, which returns those done.

    A batch is handed over when it holds `size` events, or by `flush_regularly` when its first event has waited
    `within_s` seconds.
    """

    def __init__(
        self, process: Callable[[Sequence[Any]], Awaitable[Sequence[Any]]], *, size: int, within_s: float
    ) -> None:
        self._process = process
        self._size = size
        self._within_s = within_s
        self._events: list[Any] = []
        self._oldest = 0.0
        self._one_at_a_time = asyncio.Lock()

    async def add(self, event: Any) -> None:
        """Add an event; waits while a full batch is processed, which holds back the source."""
        if not self._events:
            self._oldest = time.monotonic()
        self._events.append(event)
        if len(self._events) >= self._size:
            await self.flush()

    async def flush_regularly(self) -> None:
        """Process what has waited long enough, for ever."""
        while True:
            await asyncio.sleep(self._within_s / 4)
            if self._events and time.monotonic() - self._oldest >= self._within_s:
                await self.flush()

    async def flush(self) -> None:
        """Process what waits. On failure the process ends at once, with nothing acknowledged."""
        async with self._one_at_a_time:
            events, self._events = self._events, []
            if not events:
                return
            try:
                done = await self._process(events)
            except asyncio.CancelledError:
                raise
            except Exception:
                logger.exception("a batch of %d events failed; they will be delivered again", len(events))
                logging.shutdown()
                os._exit(FAILED_BATCH)
            for event in done:
                event.ack()

    def drop(self) -> None:
        """Forget what waits, unacknowledged: after a rebalance Kafka delivers it again, here or elsewhere."""
        self._events = []
