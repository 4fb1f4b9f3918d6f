"""Reads of an ad engine: in bulk, logged as they were, and never a reason for a search to fail."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import pytest

from feature_store.reader import Engagement, Engagements, FeatureReader
from ops.settings import Settings
from ops.shop.ad_engine import AdEngine
from ops.shop.feature_reads import EngineFeatures
from ops.shop.items import Item
from ops.shop.retrieval import Retriever
from ops.shop.scorers import LexicalScorer
from ops.shop.ubi_writer import query_record
from streams.records import EngagementReads
from streams.ubi import Dialect, parse_query
from tests.streams.samples import encode

ITEMS = {
    n: Item(item_id=n, title=f"red mug {n}", brand="", category=(), attributes={}, price=1.0) for n in "abcd"
}


class _Reader:
    """Answers that item `a` has clicks, `b` none, and that nothing is known of the rest."""

    trouble = "away"

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []
        self.fails = False

    def engagement(self, query: str, item_ids: Sequence[str]) -> Engagements:
        self.asked.append((query, list(item_ids)))
        if self.fails:
            raise UnicodeEncodeError("utf-8", "", 0, 1, "surrogate")
        known = {"a": Engagement(9, 3, 1, 0.1 + 0.2, 3 / 0.3, 5), "b": Engagement(4, 0, 0, 0.0, None, 6)}
        times: dict[str, int | None] = {"a": 10, "b": 11, "c": 12}
        return Engagements(
            [known.get(item_id) for item_id in item_ids],
            [times.get(item_id) for item_id in item_ids],
            [None if (at := times.get(item_id)) is None else at + 1 for item_id in item_ids],
        )


def _engine(reader: _Reader) -> tuple[AdEngine, EngineFeatures]:
    features = EngineFeatures(cast(FeatureReader, reader))
    lexical = LexicalScorer(ITEMS.values())
    engine = AdEngine(
        items=ITEMS,
        retriever=Retriever(ITEMS.values()),
        bids={"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4},
        control=lexical,
        treatment=lexical,
        fallback=lexical,
        experiment=Settings().experiment,
        page_size=3,
        wall_us=lambda: 99,
    )
    engine.read_from(features)
    return engine, features


def test_all_candidates_are_read_at_once_and_what_is_shown_is_logged() -> None:
    reader = _Reader()
    engine, features = _engine(reader)
    page = engine.search("Red  MUG", "someone")
    assert [(query, sorted(items)) for query, items in reader.asked] == [("red mug", ["a", "b", "c", "d"])]
    assert [each.item.item_id for each in page.placements] == ["d", "c", "b"]
    assert page.features == EngagementReads(
        served_us=99,
        item_ids=["d", "c", "b"],
        read_us=[None, 12, 11],
        answered_us=[None, 13, 12],
        as_of_us=[None, None, 6],
        impressions=[None, None, 4],
        clicks=[None, None, 0],
        purchases=[None, None, 0],
        expected_clicks=[None, None, 0.0],
        coec=[None, None, None],
    )
    assert dict(features.counters) == {"feature_reads": 1, "feature_reads_degraded": 1}
    assert features.trouble == "away"
    # What is written is what the streams edge reads.
    record = query_record(
        page, query_id="q", response_id="r", client_id="c", session_id="s", at_ms=1_800_000_000_000
    )
    typed = parse_query(encode(record), dialect=Dialect(), now_ms=1_800_000_000_000)
    assert typed.features == page.features


def test_a_read_that_breaks_leaves_a_page_without_features(caplog: pytest.LogCaptureFixture) -> None:
    reader = _Reader()
    reader.fails = True
    engine, features = _engine(reader)
    with caplog.at_level(logging.ERROR):
        pages = [engine.search("red mug", "someone") for _ in range(5)]
    for page in pages:
        assert page.features is not None
        assert len(page.placements) == 3
        assert (page.features.read_us, page.features.clicks) == ([None] * 3, [None] * 3)
    expected: dict[str, Any] = {
        "feature_reads": 5,
        "feature_reads_degraded": 5,
        "feature_reads_failed": 5,
    }
    assert dict(features.counters) == expected
    assert len(caplog.records) == 3


def test_history_reads_nothing() -> None:
    reader = _Reader()
    engine, _ = _engine(reader)
    assert engine.rank("red mug", engine.scorer_of("control")).features is None
    assert reader.asked == []


def test_a_changed_item_is_shown_and_found_by_its_new_words() -> None:
    engine, _ = _engine(_Reader())
    changed = Item(item_id="a", title="blue teapot", brand="", category=(), attributes={}, price=1.0)
    engine.replace(changed)
    assert engine.candidates("blue teapot") == [changed]
    assert changed not in engine.candidates("mug")
    assert engine.rank("teapot", engine.scorer_of("control")).placements[0].item.title == "blue teapot"
    with pytest.raises(KeyError):
        engine.replace(Item(item_id="z", title="", brand="", category=(), attributes={}, price=1.0))
