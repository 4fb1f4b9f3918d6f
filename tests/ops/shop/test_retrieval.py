from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.shop.items import Item
from ops.shop.retrieval import Retriever
from ops.shop.shop import Shop


def item(item_id: str, title: str, brand: str = "Nova", category: tuple[str, ...] = ()) -> Item:
    return Item(item_id=item_id, title=title, brand=brand, category=category, attributes={}, price=1.0)


ITEMS = [
    item("1", "Nova red running shoes size 42"),
    item("2", "blue running shoes", brand="Kulo"),
    item("3", "garden hose 20m", category=("Garden", "Garden hose")),
    item("4", 'under_score "quoted" 27" monitor -- AND OR NOT NEAR(x) title:*'),
]
FTS_SYNTAX = [
    '"',
    "'",
    "*",
    "^",
    ":",
    "(",
    ")",
    "-",
    "+",
    " AND ",
    " OR ",
    " NOT ",
    " NEAR(a b) ",
    "title:",
    "\0",
    "{",
]


def test_items_with_all_words_come_before_those_with_some() -> None:
    assert Retriever(ITEMS).candidates("red running shoes") == ["1", "2"]


def test_brand_and_category_are_searched_too() -> None:
    assert Retriever(ITEMS).candidates("kulo") == ["2"]
    assert Retriever(ITEMS).candidates("GARDEN") == ["3"]


@pytest.mark.parametrize("query", ["runing shos", "rnning", "shoess"])
def test_a_slip_finds_the_nearest_known_word(query: str) -> None:
    assert set(Retriever(ITEMS).candidates(query)) == {"1", "2"}


@pytest.mark.parametrize("query", ["", " ", "!?", "zzzzqqq", "日本語", "\ud800", "\0"])
def test_where_nothing_matches_the_first_items_are_the_answer(query: str) -> None:
    assert Retriever(ITEMS, candidates=2).candidates(query) == ["1", "2"]


@pytest.mark.parametrize(
    "query", ["under_score", "NOT", "NEAR(x)", 'monitor" OR title:*', "title", "27 AND monitor"]
)
def test_search_syntax_is_plain_text(query: str) -> None:
    assert "4" in Retriever(ITEMS).candidates(query)


def test_answers_are_cached_within_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.shop.retrieval.CACHED_QUERIES", 2)
    retriever = Retriever(ITEMS)
    first = retriever.candidates("shoes")
    assert retriever.candidates("shoes") is first
    retriever.candidates("hose")
    retriever.candidates("monitor")
    again = retriever.candidates("shoes")
    assert again == first
    assert again is not first


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.text(), st.sampled_from(FTS_SYNTAX), st.sampled_from(["shoes", "usb"]))).map(
        "".join
    )
)
def test_any_text_is_answered_with_known_items(
    small_shop: Shop, small_retriever: Retriever, query: str
) -> None:
    found = small_retriever.candidates(query)
    assert 1 <= len(found) <= 50
    assert len(set(found)) == len(found)
    assert all(item_id in small_shop.items for item_id in found)
