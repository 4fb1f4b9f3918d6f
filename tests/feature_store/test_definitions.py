"""The definitions hold under every setting of the windows they are made of."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd

from feature_store.history import historical
from feature_store.store import apply
from feature_store.writing import FeatureWriter
from ops.settings import Settings
from tests.feature_store.samples import statistics


def test_days_and_hours_together_can_be_read_of_the_past(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"run_dir": str(tmp_path), "streams": {"frequency_window_s": 15 * 3600}}
    )
    store = apply(settings)
    writer = FeatureWriter(settings)
    assert writer.definitions.query_statistics.ttl == timedelta(days=2)
    writer.write("query_statistics", [statistics("mug", 1_800_000_000_000_000)])
    writer.close()
    at = pd.DataFrame(
        {"query": ["mug"], "event_timestamp": pd.to_datetime([1_800_000_001], unit="s", utc=True)}
    )
    found = historical(store, at, ["query_statistics:frequency"], as_known=False)
    assert found["frequency"].tolist() == [1]
