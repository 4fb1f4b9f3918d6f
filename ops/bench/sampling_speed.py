"""How many pairs of engagement windows the sampler takes in a second, and what it holds.

The sampler alone, with its memory on disk, without Kafka: windows of ten pairs of a Zipf-like mix of queries, a draw
after every thousand windows.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import tempfile
import time
from pathlib import Path

from ops.bench.machine import announce, rss_mb
from ops.settings import Sampling
from streams.records import CatalogueItem, EngagementWindow, ItemEngagement
from streams.sampler import Sampler
from streams.sampling_memory import SamplingMemory

ITEMS_A_WINDOW = 10
DRAW_EVERY = 1000
START_MS = 1_700_000_000_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=50_000)
    arguments = parser.parse_args()
    announce("ops.bench.sampling_speed")
    with tempfile.TemporaryDirectory() as folder:
        memory = SamplingMemory(Path(folder) / "sampling.sqlite3")
        settings = Sampling(tokens_per_hour=10_000_000)
        sampler = Sampler(settings, memory, now_ms=START_MS)
        offered_s = offer(sampler, memory, arguments.items)
        print(f"catalogue: {arguments.items / offered_s:,.0f} items/s", flush=True)
        gc.collect()
        before_mb = rss_mb(os.getpid())
        rng = random.Random(1)
        windows = [window(rng, arguments.queries, arguments.items) for _ in range(arguments.windows)]
        made_mb = rss_mb(os.getpid()) - before_mb
        drawn, drawing_s = 0, 0.0
        began_s = time.perf_counter()
        for start in range(0, len(windows), DRAW_EVERY):
            with memory.transaction():
                for one in windows[start : start + DRAW_EVERY]:
                    sampler.observe(one)
            draw_s = time.perf_counter()
            found = sampler.draw(now_ms=START_MS + start, room=1000)
            memory.sent(number for number, _ in memory.waiting())
            drawing_s += time.perf_counter() - draw_s
            drawn += len(found)
        took_s = time.perf_counter() - began_s - drawing_s
        held_mb = rss_mb(os.getpid()) - before_mb - made_mb
        pairs = len(windows) * ITEMS_A_WINDOW
        print(
            f"windows: {pairs / took_s:,.0f} pairs/s ({len(windows) / took_s:,.0f} windows/s); {drawn:,} pairs drawn,"
            f" {drawing_s * 1e3 / max(drawn, 1):.2f} ms each; {len(sampler):,} candidates held, {held_mb:.0f} MB,"
            f" memory on disk {memory.path.stat().st_size / 1e6:.1f} MB",
            flush=True,
        )
        memory.close()


def offer(sampler: Sampler, memory: SamplingMemory, items: int) -> float:
    """Offer a catalogue; return the seconds it took."""
    began_s = time.perf_counter()
    with memory.transaction():
        for number in range(items):
            sampler.offer(
                CatalogueItem(
                    item_id=f"item-{number}",
                    title=f"Norvik kettle number {number}, stainless steel, 1.7 l",
                    brand="Norvik",
                    category=("Home", "Kitchen", "Kettles"),
                    attributes={"colour": "red", "material": "steel"},
                    updated_ms=START_MS,
                )
            )
    return time.perf_counter() - began_s


def window(rng: random.Random, queries: int, items: int) -> EngagementWindow:
    """Return a window of a random query: the n-th is searched about 1/n as often as the first."""
    rank = min(queries, int(rng.paretovariate(0.5)))
    first = rank * 37 % items
    return EngagementWindow(
        query=f"query number {rank}",
        window_start_s=START_MS // 1000 // 3600 * 3600,
        window_s=3600,
        updated_ms=START_MS,
        searches=max(1, queries // rank),
        items=[
            ItemEngagement(f"item-{(first + n) % items}", 5, n % 3 == 0, 0, 0.4, 5, 5 * rng.random())
            for n in range(ITEMS_A_WINDOW)
        ],
    )


if __name__ == "__main__":
    main()
