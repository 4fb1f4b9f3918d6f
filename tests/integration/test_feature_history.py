"""Historical features against a brute-force join: a hundred thousand rows, with duplicates and late arrivals."""

from __future__ import annotations

import random
from collections import defaultdict

import pandas as pd
import pytest
from feast import FeatureStore

from feature_store.history import historical
from feature_store.offline import append, pack
from feature_store.rows import FeatureRow, in_order
from feature_store.store import apply, definitions
from ops.settings import Settings
from tests.feature_store.samples import statistics

pytestmark = pytest.mark.integration

HOUR_US = 3_600_000_000
START_US = 1_700_000_000_000_000
PUSH_US = HOUR_US // 6
ROWS = 120_000
QUERIES = 4000
TTL_US = 2 * 24 * HOUR_US


@pytest.fixture(scope="module", name="log")
def _log() -> list[tuple[FeatureRow, int]]:
    """Return (row, written at): three days of events, one in ten late by up to two hours, one in twenty again."""
    rng = random.Random(20)
    log = []
    for number in range(ROWS):
        event_us = START_US + rng.randrange(72 * HOUR_US)
        late_us = rng.randrange(2 * HOUR_US) if rng.random() < 0.1 else rng.randrange(5_000_000)
        # A push every ten minutes writes what has arrived.
        written_us = -(-(event_us + late_us) // PUSH_US) * PUSH_US
        row = statistics(f"query {rng.randrange(QUERIES)}", event_us, number, teacher_coverage=rng.random())
        log.append((row, written_us))
        if rng.random() < 0.05:
            log.append((row, written_us + rng.randrange(1, 7) * PUSH_US))
    return sorted(log, key=lambda one: one[1])


@pytest.fixture(scope="module", name="moments")
def _moments(log: list[tuple[FeatureRow, int]]) -> pd.DataFrame:
    rng = random.Random(21)
    queries = [f"query {rng.randrange(QUERIES + 20)}" for _ in range(100_000)]
    times = [START_US - HOUR_US + rng.randrange(130 * HOUR_US) for _ in queries]
    for number in range(0, 2000, 2):
        # Exactly at an event's time, and a microsecond before it.
        row, _ = log[rng.randrange(len(log))]
        queries[number : number + 2] = row.key * 2
        times[number : number + 2] = [row.event_us, row.event_us - 1]
    frame = pd.DataFrame({"query": queries, "event_timestamp": pd.to_datetime(times, unit="us", utc=True)})
    return frame.assign(moment_us=times)


def _expected(
    log: list[tuple[FeatureRow, int]], moments: pd.DataFrame, *, as_known: bool
) -> list[tuple[int, float] | None]:
    """Join by brute force: for each moment look at every row of its query."""
    by_query: dict[str, list[tuple[int, int, FeatureRow]]] = defaultdict(list)
    for row, written_us in log:
        by_query[row.key[0]].append((row.event_us, written_us, row))
    found: list[tuple[int, float] | None] = []
    for query, moment_us in zip(moments["query"], moments["moment_us"], strict=True):
        best: FeatureRow | None = None
        for event_us, written_us, row in by_query.get(query, ()):
            counts = moment_us - TTL_US <= event_us <= moment_us and (not as_known or written_us <= moment_us)
            if counts and (best is None or event_us > best.event_us):
                best = row
        found.append((best.values["frequency"], best.values["teacher_coverage"]) if best else None)
    return found


@pytest.fixture(scope="module", name="store")
def _store(tmp_path_factory: pytest.TempPathFactory, log: list[tuple[FeatureRow, int]]) -> FeatureStore:
    settings = Settings.model_validate({"run_dir": str(tmp_path_factory.mktemp("history"))})
    store = apply(settings)
    view = definitions(settings).query_statistics
    by_batch: dict[int, list[FeatureRow]] = defaultdict(list)
    for row, written_us in log:
        by_batch[written_us].append(row)
    for written_us, rows in by_batch.items():
        append(view, in_order(rows), created_us=written_us)
    assert pack(view, now_s=START_US / 1e6 + 100 * 3600) > 0
    return store


@pytest.mark.parametrize("as_known", [True, False])
def test_history_equals_a_brute_force_join(
    store: FeatureStore, log: list[tuple[FeatureRow, int]], moments: pd.DataFrame, as_known: bool
) -> None:
    features = ["query_statistics:frequency", "query_statistics:teacher_coverage"]
    found = historical(store, moments, features, as_known=as_known)
    assert len(found) == len(moments)
    got = {
        (query, moment_us): None if pd.isna(frequency) else (int(frequency), coverage)
        for query, moment_us, frequency, coverage in zip(
            found["query"], found["moment_us"], found["frequency"], found["teacher_coverage"], strict=True
        )
    }
    expected = _expected(log, moments, as_known=as_known)
    wrong = [
        (query, moment_us, got[query, moment_us], wanted)
        for query, moment_us, wanted in zip(moments["query"], moments["moment_us"], expected, strict=True)
        if got[query, moment_us] != wanted
    ]
    assert wrong == []
    none = sum(wanted is None for wanted in expected)
    assert 1000 < none < len(expected) - 1000


def test_what_came_late_is_unknown_until_then(store: FeatureStore, log: list[tuple[FeatureRow, int]]) -> None:
    """The two ways of reading differ, or the test above could not tell them apart."""
    late = [(row, written_us) for row, written_us in log if written_us - row.event_us > HOUR_US]
    moments = pd.DataFrame(
        {
            "query": [row.key[0] for row, _ in late],
            "event_timestamp": pd.to_datetime([row.event_us for row, _ in late], unit="us", utc=True),
        }
    )
    reads = [
        historical(store, moments, ["query_statistics:frequency"], as_known=as_known)
        .sort_values(["query", "event_timestamp"])["frequency"]
        .tolist()
        for as_known in (True, False)
    ]
    assert sum(known != then for known, then in zip(*reads, strict=True)) > len(late) / 2
