"""What reading and logging features costs the ad engine: a search with and without, and its record's size.

    python -m ops.bench.shop_features [--searches N]

A feature store in sqlite that holds the engagement of all queries' candidates; searches by the shop's own traffic,
both ways in turn, with retrieval's answers at hand. The reader has its default staleness; searches come one after the
other, so its cache serves more than at a shop's pace.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, quantiles

import msgspec
import numpy as np

from feature_store.engagement import merge
from feature_store.reader import FeatureReader
from feature_store.store import apply
from feature_store.writing import FeatureWriter
from ops.bench.machine import announce
from ops.settings import load
from ops.shop.ad_engine import Page
from ops.shop.feature_reads import EngineFeatures
from ops.shop.process import build_engine
from ops.shop.shop import open_shop
from ops.shop.ubi_writer import query_record
from streams.normalise import normalise_query
from streams.records import EngagementWindow, ItemEngagement


def record_bytes(page: Page) -> int:
    """Return the size of the search's record, before compression."""
    record = query_record(
        page, query_id="q" * 36, response_id="r" * 36, client_id="c", session_id="s", at_ms=0
    )
    return len(msgspec.json.encode(record))


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--searches", type=int, default=2_000)
    arguments = parser.parse_args()
    announce("ops.bench.shop_features")
    with tempfile.TemporaryDirectory() as folder:
        settings = load({"RELEVANCE_RUN_DIR": str(Path(folder)), "RELEVANCE_SHOP__QUERIES": "500"})
        shop = open_shop(settings.shop)
        engine = build_engine(settings, shop)
        apply(settings)
        writer = FeatureWriter(settings)
        now_ms = time.time_ns() // 1_000_000
        for query in shop.queries:
            items = [ItemEngagement(item.item_id, 9, 1, 0, 0.7) for item in engine.candidates(query.text)]
            window = EngagementWindow(
                query=normalise_query(query.text),
                window_start_s=now_ms // 3_600_000 * 3600,
                window_s=3600,
                updated_ms=now_ms,
                items=items,
            )
            writer.write("pair_engagement", merge([window], {}, windows_kept=24))
        writer.close()
        features = EngineFeatures(FeatureReader(settings))
        scorer = engine.scorer_of(settings.experiment.control)
        rng = np.random.default_rng(1)
        chosen = rng.choice(len(shop.queries), arguments.searches, p=[query.share for query in shop.queries])
        took_ms: dict[bool, list[float]] = {False: [], True: []}
        sizes: dict[bool, list[int]] = {False: [], True: []}
        for number in chosen.tolist():
            # The other way round each time, since the second finds the processor's caches warm.
            for reads in (False, True) if len(sizes[True]) % 2 else (True, False):
                began_s = time.perf_counter()
                page = engine.rank(shop.queries[number].text, scorer, features=features if reads else None)
                size = record_bytes(page)
                took_ms[reads].append((time.perf_counter() - began_s) * 1000)
                sizes[reads].append(size)
        for reads, name in ((False, "without features"), (True, "with features")):
            cuts = quantiles(took_ms[reads], n=100)
            print(
                f"{name:16} mean {mean(took_ms[reads]):.2f} ms, p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms;"
                f" record of {mean(sizes[reads]):,.0f} bytes"
            )
        features.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
