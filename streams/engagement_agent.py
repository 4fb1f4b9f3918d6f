"""The agent that turns engagement deltas into windows: `engagement.deltas` → `engagement.windows`.

Deltas are keyed by query, so a query's windows live on one worker. Every few seconds the changed windows are
stored and sent, then the deltas behind them acknowledged: a crash in between counts at most those deltas twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import faust
import msgspec

from ops.settings import Settings
from streams import topics
from streams.batches import Batches
from streams.engagement import Engagement
from streams.faust_app import bytes_table, raw_topic
from streams.pages import partition_of
from streams.records import EngagementDelta, EngagementWindow

logger = logging.getLogger(__name__)

FLUSH_EVERY_S = 5.0
#: Messages of deltas held unacknowledged at most; one message holds the deltas of a batch.
MAX_HELD = 2000

_decode_deltas = msgspec.json.Decoder(list[EngagementDelta]).decode
_decode_window = msgspec.json.Decoder(EngagementWindow).decode


class EngagementAgent:
    """Holds the engagement windows of the partitions assigned to this worker."""

    def __init__(self, app: faust.App, settings: Settings, counters: Counter[str]) -> None:
        self._app = app
        self._settings = settings.streams
        self._counters = counters
        self._windows_topic = raw_topic(app, topics.ENGAGEMENT_WINDOWS)
        self._table = bytes_table(app, "engagement", settings)
        self._held: dict[int, Engagement] = {}
        self._recover = True
        self._batches = Batches(self._process, size=MAX_HELD, within_s=FLUSH_EVERY_S)

        async def count(stream: Any) -> None:
            async for event in stream.noack().events():
                await self._batches.add(event)

        async def on_rebalance(*_: Any, **__: Any) -> None:
            self._batches.drop()
            self._recover = True

        app.agent(raw_topic(app, topics.ENGAGEMENT_DELTAS), name="engagement")(count)
        app.on_partitions_revoked.connect(on_rebalance, weak=False)
        app.on_partitions_assigned.connect(on_rebalance, weak=False)
        app.task(self._batches.flush_regularly)

    async def _process(self, events: Sequence[Any]) -> Sequence[Any]:
        if self._recover:
            self._take_over_partitions()
        touched = set()
        for event in events:
            partition = event.message.partition
            touched.add(partition)
            engagement = self._engagement_of(partition)
            for delta in _decode_deltas(event.message.value):
                engagement.add(delta)
        now_ms = time.time_ns() // 1_000_000
        sent = []
        for partition in touched:
            engagement = self._held[partition]
            changed = engagement.take_changed(now_ms=now_ms)
            for window in changed:
                query, value = window.query.encode("utf-8", "surrogatepass"), msgspec.json.encode(window)
                sent.append(await self._windows_topic.send(key=query, value=value, partition=partition))
                self._store(partition, _key(partition, window.window_start_s, window.query), value)
            for start_s, of_query in engagement.forget_old():
                self._store(partition, _key(partition, start_s, of_query), None)
            self._counters["engagement_windows"] += len(changed)
        await asyncio.gather(*sent)
        self._counters["engaged_pairs_held"] = sum(len(engagement) for engagement in self._held.values())
        return events

    def _engagement_of(self, partition: int) -> Engagement:
        engagement = self._held.get(partition)
        if engagement is None:
            engagement = self._held[partition] = Engagement(
                window_s=self._settings.engagement_window_s,
                windows_kept=self._settings.engagement_windows_kept,
            )
        return engagement

    def _store(self, partition: int, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._table.data.pop(key, None)
            self._table.send_changelog(partition, key, None, value_serializer="raw")
        else:
            self._table.data[key] = value
            self._table.send_changelog(partition, key, value)

    def _take_over_partitions(self) -> None:
        self._recover = False
        self._held.clear()
        by_partition: dict[int, list[EngagementWindow]] = defaultdict(list)
        for key, value in self._table.data.items():
            by_partition[partition_of(key)].append(_decode_window(value))
        mine = {
            tp.partition for tp in self._app.consumer.assignment() if tp.topic == topics.ENGAGEMENT_DELTAS
        }
        for partition in mine:
            self._engagement_of(partition).restore(by_partition.get(partition, []))


def _key(partition: int, window_start_s: int, query: str) -> bytes:
    return b"%d:%d:%s" % (partition, window_start_s, query.encode("utf-8", "surrogatepass"))
