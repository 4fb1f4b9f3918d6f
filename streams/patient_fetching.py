"""A consumer for Faust that asks the broker less often while little comes.

A fetch says how much it waits for (`fetch.min.bytes`, `fetch.max.wait.ms`); a broker that answers at once all the
same, as the embedded one does, would be asked hundreds of times a second by an idle worker, which costs both a core.
So the client waits: after a small answer the next fetch goes out `PAUSE_S` after the one before. What came is handed
on at once, and a backlog, which comes in large answers, is read as fast as ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiokafka
import faust
from aiokafka.protocol.fetch import FetchRequest
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from faust.types.transports import TransportT

PAUSE_S = 0.05
#: Some hundred events; what is larger is a backlog.
SMALL_BYTES = 64 * 1024

Send = Callable[..., Awaitable[Any]]


def patient(
    send: Send,
    *,
    clock_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Send:
    """Return `send`, with fetches from a node that had little put off. Other requests are sent as they come."""
    next_s: dict[int, float] = {}

    async def sent(node_id: int, request: Any, *args: Any, **options: Any) -> Any:
        if not isinstance(request, FetchRequest):
            return await send(node_id, request, *args, **options)
        await sleep(max(0.0, next_s.get(node_id, 0.0) - clock_s()))
        began_s = clock_s()
        response = await send(node_id, request, *args, **options)
        size = sum(len(part[-1] or b"") for _, parts in response.topics or () for part in parts)
        next_s[node_id] = began_s + PAUSE_S if size < SMALL_BYTES else 0.0
        return response

    return sent


class _Thread(AIOKafkaConsumerThread):
    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_consumer(loop)
        client = consumer._client
        client.send = patient(client.send)
        return consumer


class PatientConsumer(Consumer):
    """Faust's consumer with such a client."""

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)


class PatientApp(faust.App):
    """A Faust application whose consumer is such a one."""

    def _new_transport(self) -> TransportT:
        transport = super()._new_transport()
        # Declared a class variable; Faust reads it from the transport.
        transport.Consumer = PatientConsumer  # type: ignore[misc]
        return transport
