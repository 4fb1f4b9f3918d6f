"""Item content: rows of offers, changes of text, pairs to judge again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from feature_store.content import changes, content_row, pairs_to_judge_again, removed_row
from streams.item_text import content_hash
from streams.records import CatalogueItem
from tests.feature_store.samples import NOW_MS


def _item(title: str = "Nova mug", **fields: Any) -> CatalogueItem:
    return msgspec.structs.replace(CatalogueItem(item_id="i1", title=title, updated_ms=NOW_MS), **fields)


def test_a_row_holds_the_text_that_the_teacher_reads() -> None:
    row = content_row(
        _item(brand="Nova", category=("Home", "Kitchen", "Mugs"), attributes={"size": "1 l", "x": "y"})
    )
    assert row.values["text"] == "Nova mug\nbrand: Nova\ncategory: Home / Kitchen / Mugs\nsize: 1 l"
    assert row.values["content_hash"] == content_hash(row.values["text"])
    assert (row.values["category"], row.values["attributes"]) == ("Home / Kitchen / Mugs", '{"size":"1 l"}')
    assert row.event_us == NOW_MS * 1000


@examples(deadline=None)
@given(title=st.text(), brand=st.text(), value=st.text())
def test_any_text_gives_a_row_that_can_be_stored(title: str, brand: str, value: str) -> None:
    row = content_row(_item(title, brand=brand, attributes={"colour": value}))
    for text in row.values.values():
        if isinstance(text, str):
            text.encode()


def test_only_another_text_is_a_change() -> None:
    row = content_row(_item())
    known_hash = row.values["content_hash"]
    assert changes([row], {}) == []
    assert changes([row], {"i1": (known_hash, 0)}) == []
    assert changes([row], {"i1": ("other", row.event_us)}) == []
    assert changes([removed_row("i1", removed_ms=NOW_MS)], {"i1": (known_hash, 0)}) == []
    (change,) = changes([row], {"i1": ("other", 0)})
    assert (change.before, change.content_hash, change.changed_ms) == ("other", known_hash, NOW_MS)


def test_judged_pairs_of_changed_items_are_judged_again() -> None:
    changed = changes([content_row(_item())], {"i1": ("other", 0)})
    asked: list[dict[str, str]] = []

    def judged(present: Mapping[str, str]) -> dict[str, list[str]]:
        asked.append(dict(present))
        return {"i1": ["mug", "blue mug"]}

    pairs = list(pairs_to_judge_again(changed, judged, now_ms=5, deadline_ms=9))
    assert asked == [{"i1": content_hash("Nova mug")}]
    assert [(pair.query, pair.item_text, pair.reasons) for pair in pairs] == [
        ("mug", "Nova mug", {"content_changed": 1.0}),
        ("blue mug", "Nova mug", {"content_changed": 1.0}),
    ]
    assert {(pair.content_hash, pair.sampled_ms, pair.deadline_ms) for pair in pairs} == {
        (content_hash("Nova mug"), 5, 9)
    }
