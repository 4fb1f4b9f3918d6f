from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable

from ops.settings import Settings
from ops.shop.history import DAY_MS, searches
from ops.shop.outbox import in_order
from ops.shop.process import build_engine
from ops.shop.scorers import LexicalScorer
from ops.shop.shop import Shop
from ops.shop.shoppers import Population
from ops.shop.traffic import Record, Traffic
from streams.topics import UBI_EVENTS, UBI_QUERIES

NOW_MS = 1_780_000_000_000


def counting_clock() -> Callable[[], float]:
    ticks = iter(range(10_000_000))
    return lambda: next(ticks) / 1e6


def traffic_of(settings: Settings, shop: Shop, *, start_ms: int = NOW_MS, speed: float = 1) -> Traffic:
    engine = build_engine(settings, shop, clock_s=counting_clock())
    crowd = Population(shoppers=300, seed=settings.shop.seed)
    return Traffic(shop, engine, crowd, seed=settings.shop.seed, start_ms=start_ms, speed=speed)


def test_a_search_is_a_query_its_impressions_and_what_follows(
    small_settings: Settings, small_shop: Shop
) -> None:
    traffic = traffic_of(small_settings, small_shop)
    ids: set[str] = set()
    kinds: Counter[str] = Counter()
    for number in range(300):
        at_ms = NOW_MS + 40 * number
        query, *events = traffic.search(at_ms)
        assert (query.topic, query.kind, query.due_ms) == (UBI_QUERIES, "search", at_ms)
        shown = [event for event in events if event.kind == "impression"]
        hits = [event.value["event_attributes"]["object"]["object_id"] for event in shown]
        assert hits == query.value["query_response_hit_ids"]
        assert [event.value["event_attributes"]["position"]["ordinal"] for event in shown] == list(
            range(len(shown))
        )
        for record in (query, *events):
            assert record.key == record.value["query_id"] == query.value["query_id"]
            assert record.value["client_id"] == query.value["client_id"]
            kinds[record.kind] += 1
        for event in events:
            assert event.topic == UBI_EVENTS
            assert event.due_ms >= at_ms
            ids.add(event.value["event_attributes"]["event_id"])
        assert query.value["query_attributes"]["arms"].keys() == {"ranking"}
    assert kinds["impression"] > kinds["click"] > kinds["add_to_cart"] > kinds["purchase"] > 0
    assert len(ids) == kinds.total() - 300
    assert all(uuid.UUID(each).version == 4 for each in ids)


def test_traffic_follows_from_seed_and_start(small_settings: Settings, small_shop: Shop) -> None:
    def content(start_ms: int) -> list[Record]:
        traffic = traffic_of(small_settings, small_shop, start_ms=start_ms)
        return [record for number in range(50) for record in traffic.search(NOW_MS + number)]

    assert content(NOW_MS) == content(NOW_MS)
    first, other = ({record.key for record in content(start_ms)} for start_ms in (NOW_MS, NOW_MS + 1))
    assert not first & other


def test_history_is_a_day_by_time_without_arms(small_settings: Settings, small_shop: Shop) -> None:
    lexical = LexicalScorer(small_shop.items.values())
    past = searches(traffic_of(small_settings, small_shop), lexical, count=400, ends_ms=NOW_MS, seed=1)
    records = list(in_order(past))
    due = [record.due_ms for record in records]
    assert due == sorted(due)
    assert NOW_MS - DAY_MS <= due[0] < NOW_MS - DAY_MS + 3_600_000
    assert due[-1] < NOW_MS
    queries = [record for record in records if record.kind == "search"]
    assert len(queries) == 400
    for query in queries:
        assert query.value["query_attributes"]["arms"] == {}
        assert query.value["query_attributes"]["student_version"] == "lexical"


def test_at_a_higher_speed_the_same_happens_sooner(small_settings: Settings, small_shop: Shop) -> None:
    plain, fast = (traffic_of(small_settings, small_shop, speed=speed) for speed in (1, 4))
    assert fast.gap_s(5) == plain.gap_s(5) / 4
    for at_ms in range(NOW_MS, NOW_MS + 50):
        for slow, soon in zip(plain.search(at_ms), fast.search(at_ms), strict=True):
            assert (soon.kind, soon.key) == (slow.kind, slow.key)
            assert soon.due_ms - at_ms == round((slow.due_ms - at_ms) / 4)
