"""However windows are cut into batches, repeated and delayed, a pair's row ends the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from feature_store.engagement import Known, Pair, merge, pairs_of
from feature_store.rows import FeatureRow
from streams.records import EngagementWindow
from tests.feature_store.samples import NOW_MS, window

KEPT = 3


def _run(batches: list[list[EngagementWindow]]) -> dict[Pair, FeatureRow]:
    rows: dict[Pair, FeatureRow] = {}
    for batch in batches:
        known = {
            pair: Known(rows[pair].values["windows"], rows[pair].event_us)
            for pair in pairs_of(batch)
            if pair in rows
        }
        for row in merge(batch, known, windows_kept=KEPT):
            pair = (row.key[0], row.key[1])
            assert pair not in rows or row.event_us > rows[pair].event_us
            rows[pair] = row
    return rows


@st.composite
def _log(draw: st.DrawFn) -> list[EngagementWindow]:
    """Windows as the streams worker sends them: counts grow, the clock does not go back."""
    counts: dict[tuple[int, str, str], tuple[int, int]] = {}
    at_ms = NOW_MS
    log = []
    for _ in range(draw(st.integers(1, 12))):
        at_ms += draw(st.integers(1, 3))
        start_s = 3600 * draw(st.integers(1, 6))
        query = draw(st.sampled_from(["mug", "red shoes"]))
        items = []
        for item in draw(st.lists(st.sampled_from("abc"), unique=True, max_size=3)):
            shown, clicks = counts.get((start_s, query, item), (0, 0))
            counts[start_s, query, item] = (shown + draw(st.integers(0, 4)), clicks + draw(st.integers(0, 1)))
            items.append((item, *counts[start_s, query, item]))
        log.append(window(query, *items, start_s=start_s, updated_ms=at_ms))
    return log


@examples(deadline=None)
@given(log=_log(), data=st.data())
def test_batches_and_replays_change_no_value(log: list[EngagementWindow], data: st.DataObject) -> None:
    batches = []
    at = 0
    while at < len(log):
        until = data.draw(st.integers(at + 1, len(log)))
        # A crash before the commit: the batch, or more than it, comes again.
        batches += [log[at:until]] * data.draw(st.integers(1, 2))
        at = data.draw(st.integers(at + 1, until))
    batches.append(log[at:])
    expected = _run([[one] for one in log])
    found = _run(batches)
    assert {pair: row.values for pair, row in found.items()} == {
        pair: row.values for pair, row in expected.items()
    }


def test_sums_are_over_the_windows_kept() -> None:
    log = [window("mug", ("a", 10 * n, n), start_s=3600 * n, updated_ms=NOW_MS + n) for n in range(1, 6)]
    row = _run([log])["a", "mug"]
    assert row.values["impressions"] == 30 + 40 + 50
    assert row.values["clicks"] == 3 + 4 + 5
    assert row.values["coec"] == pytest.approx(12 / 30)
    assert (row.values["window_start_s"], row.values["latest_impressions"]) == (5 * 3600, 50)
    assert row.event_us == (NOW_MS + 5) * 1000


def test_a_late_window_counts_in_its_place_and_is_known_from_then_on() -> None:
    rows = _run(
        [
            [window("mug", ("a", 4, 1), start_s=7200, updated_ms=NOW_MS)],
            [window("mug", ("a", 8, 0), start_s=3600, updated_ms=NOW_MS)],
        ]
    )
    row = rows["a", "mug"]
    assert (row.values["impressions"], row.values["latest_impressions"]) == (12, 4)
    assert row.event_us == NOW_MS * 1000 + 1


def test_an_older_report_of_a_window_is_ignored() -> None:
    newer, older = window("mug", ("a", 8, 2)), window("mug", ("a", 4, 1), updated_ms=NOW_MS - 1)
    assert _run([[newer], [older]]) == _run([[newer]])


def test_nothing_expected_gives_no_coec() -> None:
    assert _run([[window("mug", ("a", 0, 1))]])["a", "mug"].values["coec"] is None


def test_a_damaged_row_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected the windows"):
        merge([window("mug", ("a", 1, 0))], {("a", "mug"): Known(b"\x91\x01", 1)}, windows_kept=KEPT)
