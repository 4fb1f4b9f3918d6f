"""Order and duplicates of rows, and their two forms."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from feature_store.definitions import define
from feature_store.rows import FeatureRow, in_order, newest, to_arrow, to_protos
from tests.feature_store.samples import NOW_MS, statistics

VIEWS = define(Path("offline"), engagement=timedelta(days=1), frequency=timedelta(days=1)).views
_rows = st.lists(
    st.builds(statistics, st.sampled_from("abc"), st.integers(1, 5), st.integers(0, 9)), max_size=20
)


@examples(deadline=None)
@given(rows=_rows)
def test_rows_come_in_order_and_once(rows: list[FeatureRow]) -> None:
    ordered = in_order(rows)
    moments = [(row.event_us, row.key) for row in ordered]
    assert moments == sorted(set(moments)) == sorted({(row.event_us, row.key) for row in rows})
    for row in ordered:
        assert row is next(one for one in rows if (one.key, one.event_us) == (row.key, row.event_us))


@examples(deadline=None)
@given(rows=_rows)
def test_the_newest_row_is_the_last_in_order(rows: list[FeatureRow]) -> None:
    assert newest(rows) == {row.key: row for row in in_order(rows)}


def test_a_row_has_the_same_values_in_both_forms() -> None:
    view = VIEWS["query_statistics"]
    row = statistics("mug", NOW_MS * 1000 + 7, frequency=None)
    (protos,) = to_protos(view, [row])
    assert protos["frequency"].WhichOneof("val") is None
    assert (protos["teacher_coverage"].double_val, protos["as_of_us"].int64_val) == (0.25, NOW_MS * 1000 + 7)
    (line,) = to_arrow(view, [row], created_us=NOW_MS * 1000 + 9).to_pylist()
    assert (line["query"], line["frequency"], line["as_of_us"]) == ("mug", None, NOW_MS * 1000 + 7)
    assert (line["created_timestamp"] - line["event_timestamp"]) == timedelta(microseconds=2)


def test_a_row_that_lacks_a_feature_is_an_error() -> None:
    with pytest.raises(KeyError, match="lacks frequency, teacher_coverage, traffic_class"):
        to_protos(VIEWS["query_statistics"], [FeatureRow(("mug",), {}, 1)])
