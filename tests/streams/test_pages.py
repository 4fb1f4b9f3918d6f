"""Open pages: kept as long as they may matter, let go when they cannot, never more than the maximum."""

from __future__ import annotations

from streams.attribution import Page
from streams.pages import OpenPages, page_key, partition_of

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


def pages(store: dict[bytes, bytes], *, max_pages: int = 1000) -> OpenPages:
    return OpenPages(store, conversion_ms=24 * HOUR_MS, lateness_ms=10 * MINUTE_MS, max_pages=max_pages)


def test_a_live_page_goes_after_its_windows_and_the_allowed_lateness() -> None:
    held = pages({})
    held.put(b"0:a", Page(opened_ms=0, touched_ms=0))
    over_ms = 24 * HOUR_MS + 10 * MINUTE_MS
    assert held.let_go(now_ms=over_ms - MINUTE_MS) == []
    assert held.let_go(now_ms=over_ms + MINUTE_MS) == [b"0:a"]
    assert len(held) == 0
    assert held.get(b"0:a") is None


def test_a_replayed_old_page_stays_while_its_events_still_come() -> None:
    held = pages({})
    now_ms = 1000 * HOUR_MS
    held.put(b"0:old", Page(opened_ms=0, touched_ms=now_ms))
    assert held.let_go(now_ms=now_ms + 9 * MINUTE_MS) == []
    held.put(b"0:old", Page(opened_ms=0, touched_ms=now_ms + 9 * MINUTE_MS))
    assert held.let_go(now_ms=now_ms + 15 * MINUTE_MS) == []
    assert held.let_go(now_ms=now_ms + 21 * MINUTE_MS) == [b"0:old"]


def test_beyond_the_maximum_the_oldest_go() -> None:
    store: dict[bytes, bytes] = {}
    held = pages(store, max_pages=3)
    for n in range(5):
        held.put(b"0:%d" % n, Page(opened_ms=n * HOUR_MS, touched_ms=0))
    assert held.let_go(now_ms=0) == [b"0:0", b"0:1"]
    assert sorted(store) == [b"0:2", b"0:3", b"0:4"]


def test_after_a_rebalance_only_own_partitions_are_held() -> None:
    store: dict[bytes, bytes] = {}
    before = pages(store)
    for partition in (0, 1, 2):
        before.put(page_key(partition, "q"), Page(opened_ms=0, touched_ms=0))
    after = pages(store)
    after.rebuild({1})
    assert list(store) == [b"1:q"]
    assert after.let_go(now_ms=30 * HOUR_MS) == [b"1:q"]


def test_keys_tell_partitions_apart_whatever_the_query_id() -> None:
    assert partition_of(page_key(12, "3:4")) == 12
    assert page_key(1, "1:q") != page_key(11, ":q")
