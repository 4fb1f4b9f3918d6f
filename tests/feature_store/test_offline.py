"""Files of the offline store: whole or not there, packed without loss."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureView

from feature_store import offline
from feature_store.definitions import define
from feature_store.rows import FeatureRow
from tests.feature_store.samples import statistics

NOW_MS = 1_700_000_000_000
NOW_US = NOW_MS * 1000
HOUR_S = 3600


@pytest.fixture(name="view")
def _view(tmp_path: Path) -> FeatureView:
    view = define(tmp_path, engagement=timedelta(days=1), frequency=timedelta(days=1)).query_statistics
    offline.prepare(view)
    return view


def _latest(view: FeatureView) -> dict[str, int]:
    return {row.key[0]: row.values["frequency"] for rows in offline.latest(view) for row in rows}


def test_nothing_written_reads_as_nothing(view: FeatureView) -> None:
    assert _latest(view) == {}


def test_rows_lie_by_day_and_hour_of_their_event_time(view: FeatureView, tmp_path: Path) -> None:
    made = offline.append(
        view, [statistics("a", NOW_US), statistics("b", NOW_US + 3_600_000_000)], created_us=NOW_US
    )
    assert [str(path.parent.relative_to(tmp_path / view.name)) for path in made] == [
        "2023-11-14/22",
        "2023-11-14/23",
    ]
    assert pq.read_schema(made[0]).field("event_timestamp").type == pa.timestamp("us", tz="UTC")


def test_half_a_file_is_not_seen(view: FeatureView, monkeypatch: pytest.MonkeyPatch) -> None:
    offline.append(view, [statistics("a", NOW_US)], created_us=NOW_US)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        offline.append(view, [statistics("b", NOW_US)], created_us=NOW_US)
    monkeypatch.undo()
    assert _latest(view) == {"a": 1}
    offline.pack(view, now_s=NOW_MS / 1000 + HOUR_S)
    assert len(list(offline.folder_of(view).rglob(f"*{offline.UNFINISHED}"))) == 1


def test_the_latest_row_is_by_event_time_not_by_arrival(view: FeatureView) -> None:
    offline.append(view, [statistics("a", NOW_US + 5, 5)], created_us=NOW_US + 10)
    offline.append(view, [statistics("a", NOW_US + 4, 4)], created_us=NOW_US + 20)
    assert _latest(view) == {"a": 5}


def test_hours_that_are_over_are_packed_and_the_rest_goes_later(view: FeatureView) -> None:
    rows = [statistics(f"query {n}", NOW_US + n, n) for n in range(20)]
    for row in rows:
        offline.append(view, [row], created_us=row.event_us)
    expected = {row.key[0]: row.values["frequency"] for row in rows}
    hour = next(offline.folder_of(view).glob("*/*"))
    hour_s = NOW_MS // 1000 // HOUR_S * HOUR_S
    assert offline.pack(view, now_s=hour_s + 2 * HOUR_S - 1) == 0
    assert offline.pack(view, now_s=hour_s + 2 * HOUR_S) == 20
    assert len(list(hour.glob("*.parquet"))) == 21
    assert _latest(view) == expected
    late = FeatureRow(("late",), rows[0].values, NOW_US)
    offline.append(view, [late], created_us=NOW_US)
    over_s = time.time() + offline.GRACE_S + 1
    assert offline.pack(view, now_s=over_s) == 2
    assert len(list(hour.glob("*.parquet"))) == 3
    assert _latest(view) == expected | {"late": 0}
    assert offline.pack(view, now_s=over_s) == 0
    assert [path.name.startswith("packed-") for path in hour.glob("*.parquet")] == [True]
    assert _latest(view) == expected | {"late": 0}
