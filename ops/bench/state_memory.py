"""What the streams worker holds per million events, and that later events take the place of old ones.

Runs the ingestion alone, without Kafka, on pages of twelve events; memory is the process's resident size.
"""

from __future__ import annotations

import argparse
import gc
import os
import time

from ops.bench.machine import announce, rss_mb
from ops.bench.traffic import records
from streams.attribution import Windows
from streams.frequency import QueryFrequency
from streams.ingestion import RawRecord, ingest
from streams.pages import OpenPages
from streams.ubi import Dialect

DAY_MS = 86_400_000
BATCH = 1000
#: Each wave comes two days after the one before, when that one's time is over.
WAVES = 3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1_000_000)
    arguments = parser.parse_args()
    announce("ops.bench.state_memory")
    first_ms = int(time.time() * 1000) - 2 * DAY_MS
    store: dict[bytes, bytes] = {}
    pages = OpenPages(store, conversion_ms=DAY_MS, lateness_ms=600_000, max_pages=10_000_000)
    frequency = QueryFrequency(head_share=0.5, torso_share=0.3, window_s=86_400, now_s=first_ms / 1000)
    gc.collect()
    before_mb = rss_mb(os.getpid())
    for wave in range(WAVES):
        now_ms = first_ms + wave * 2 * DAY_MS
        gone = len(pages.let_go(now_ms=now_ms))
        began_s = time.process_time()
        events = feed(pages, frequency, pages_of=arguments.events // 12, seed=wave, now_ms=now_ms)
        used_s = time.process_time() - began_s
        stored = sum(map(len, store.values())) / max(len(store), 1)
        gc.collect()
        held_mb = rss_mb(os.getpid()) - before_mb
        print(
            f"wave {wave + 1}: {gone:,} pages let go, then {events:,} events: {len(pages):,} open pages of"
            f" {stored:.0f} bytes, {held_mb:.0f} MB above the start ({held_mb / events * 1e6:.0f} MB per million"
            f" events), {used_s / events * 1e6:.1f} us of CPU per event, making it included",
            flush=True,
        )


def feed(pages: OpenPages, frequency: QueryFrequency, *, pages_of: int, seed: int, now_ms: int) -> int:
    """Ingest `pages_of` pages of results, a little over twelve events each; return how many events."""
    windows = Windows(click_ms=1_800_000, conversion_ms=DAY_MS, skew_ms=5_000, engagement_s=3600)
    events, batch = 0, list[RawRecord]()
    for topic, key, value in records(pages_of, seed=seed, start_ms=now_ms - 120_000):
        batch.append(RawRecord(topic, 0, events, key, value))
        events += 1
        if len(batch) == BATCH:
            ingest(batch, pages=pages, frequency=frequency, dialect=Dialect(), windows=windows, now_ms=now_ms)
            batch = []
    return events


if __name__ == "__main__":
    main()
