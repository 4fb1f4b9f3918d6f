"""One call to a version of a model: within a deadline, tried again where that can help, hedged if set, counted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt
from tritonclient.grpc import aio
from tritonclient.utils import InferenceServerException

from ops.serving.connection import TritonError, async_client, headers_of, tensors
from ops.settings import Settings

#: The server was away or too busy to take the call: another one may be taken.
RETRIED = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
#: The first pause before another try; it doubles.
PAUSE_S = 0.004
#: Of the time left, what a call may wait in the server's queue.
QUEUED_SHARE = 0.5
#: With less time left no call is sent.
LEAST_S = 0.001

Arrays = Mapping[str, npt.NDArray[Any]]


class DeadlineError(TritonError):
    """The time for an answer is over."""

    def __init__(self, what: str) -> None:
        RuntimeError.__init__(self, f"{what}: no answer before the deadline (DEADLINE_EXCEEDED)")
        self.code = "DEADLINE_EXCEEDED"


class Calls:
    """Calls of one event loop. `counters` has `calls`, `retries`, `hedges` and `error_CODE`."""

    def __init__(self, settings: Settings, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Raises NotRunningError without an address."""
        self.counters: Counter[str] = Counter()
        self._client = async_client(settings)
        self._headers = headers_of(settings)
        self._scoring = settings.scoring
        self._clock_s = clock_s

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    async def infer(self, model: str, version: int, values: Arrays, *, output: str, until_s: float) -> Any:
        """Return one output of a version. `until_s` is on the clock. Raises TritonError."""
        pause_s = PAUSE_S
        for attempt in range(1, self._scoring.attempts + 1):
            began_s = self._clock_s()
            try:
                return await self._hedged(model, version, values, output=output, until_s=until_s)
            except TritonError as error:
                self.counters[f"error_{error.code}"] += 1
                now_s = self._clock_s()
                # What has waited in a queue would wait again: the server has more than it can do.
                waited = now_s - began_s > (until_s - began_s) * QUEUED_SHARE / 2
                last = attempt == self._scoring.attempts or until_s - now_s <= pause_s + LEAST_S
                if error.code not in RETRIED or waited or last:
                    raise
            self.counters["retries"] += 1
            await asyncio.sleep(pause_s)
            pause_s *= 2
        raise AssertionError("attempts is at least 1")

    async def _hedged(self, model: str, version: int, values: Arrays, *, output: str, until_s: float) -> Any:
        def call() -> asyncio.Task[Any]:
            return asyncio.create_task(self._call(model, version, values, output=output, until_s=until_s))

        running = {call()}
        try:
            if self._scoring.hedge_after_ms:
                done, _ = await asyncio.wait(running, timeout=self._scoring.hedge_after_ms / 1000)
                if not done:
                    self.counters["hedges"] += 1
                    running.add(call())
            error: BaseException | None = None
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    error = task.exception()
                    if error is None:
                        return task.result()
            assert error is not None
            raise error
        finally:
            for task in running:
                task.cancel()

    async def _call(self, model: str, version: int, values: Arrays, *, output: str, until_s: float) -> Any:
        left_s = until_s - self._clock_s()
        if left_s < LEAST_S:
            raise DeadlineError(f"{model} {version}")
        self.counters["calls"] += 1
        try:
            result = await self._client.infer(
                model,
                tensors(values, module=aio),
                model_version=str(version),
                outputs=[aio.InferRequestedOutput(output)],
                # The server lets go of what has waited in its queue for so long; the rest is for the answer. Without
                # this an overloaded server would be busy with answers that come too late.
                timeout=int(left_s * QUEUED_SHARE * 1e6),
                client_timeout=left_s,
                headers=self._headers,
            )
        except InferenceServerException as error:
            raise TritonError(f"{model} {version}", error) from error
        return result.as_numpy(output)
