"""Item content: what the catalogue says of an item, and which judgements a change of it makes obsolete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from feature_store.rows import FeatureRow
from streams.item_text import ATTRIBUTES, CATEGORY_LEVELS, MAX_VALUE_CHARS, clean, content_hash, item_text
from streams.records import CatalogueItem, Pair

#: The one reason of a pair that is judged anew because its item's text is another.
CONTENT_CHANGED = "content_changed"
MAX_ID_CHARS = 256


@dataclass(frozen=True, slots=True)
class ContentChange:
    """An item whose text is another than before. Times are epoch milliseconds."""

    item_id: str
    item_text: str
    before: str
    content_hash: str
    changed_ms: int


def content_row(item: CatalogueItem) -> FeatureRow:
    """Return the row of an item that the shop offers."""
    text = item_text(title=item.title, brand=item.brand, category=item.category, attributes=item.attributes)
    path = [clean(level, max_chars=MAX_VALUE_CHARS) for level in item.category[-CATEGORY_LEVELS:]]
    attributes = {
        name: cleaned
        for name in ATTRIBUTES
        if (cleaned := clean(item.attributes.get(name, ""), max_chars=MAX_VALUE_CHARS))
    }
    return FeatureRow(
        key=(item.item_id,),
        values={
            "text": text,
            "brand": clean(item.brand, max_chars=MAX_VALUE_CHARS),
            "category": " / ".join(filter(None, path)),
            "attributes": msgspec.json.encode(attributes).decode(),
            "content_hash": content_hash(text),
            "listed": True,
        },
        event_us=item.updated_ms * 1000,
    )


def removed_row(item_id: str, *, removed_ms: int) -> FeatureRow:
    """Return the row of an item that the shop took out."""
    return FeatureRow(
        key=(item_id,),
        values={
            "text": "",
            "brand": "",
            "category": "",
            "attributes": "{}",
            "content_hash": "",
            "listed": False,
        },
        event_us=removed_ms * 1000,
    )


def changes(rows: Iterable[FeatureRow], known: Mapping[str, tuple[str, int]]) -> list[ContentChange]:
    """Return the items whose text the rows change.

    `rows` hold one row an item; `known` gives content hash and event time (microseconds) of what the store has.
    A new item is no change, nor is one taken out or older than what is known.
    """
    found = []
    for row in rows:
        before, known_us = known.get(row.key[0], ("", 0))
        after = row.values["content_hash"]
        if before and after and after != before and row.event_us > known_us:
            found.append(ContentChange(row.key[0], row.values["text"], before, after, row.event_us // 1000))
    return found


def pairs_to_judge_again(
    changed: Sequence[ContentChange],
    obsolete: Callable[[Mapping[str, str]], Mapping[str, Iterable[str]]],
    *,
    now_ms: int,
    deadline_ms: int,
) -> Iterator[Pair]:
    """Yield the pairs whose judgement is about a text that is no more.

    `obsolete` returns, for items by content hash, the queries under which each was judged on other texts alone, as
    the judgements have them.
    """
    by_item = {change.item_id: change for change in changed}
    present = {item_id: change.content_hash for item_id, change in by_item.items()}
    for item_id, queries in obsolete(present).items():
        change = by_item[item_id]
        for query in queries:
            yield Pair(
                query=query,
                item_id=item_id,
                item_text=change.item_text,
                content_hash=change.content_hash,
                reasons={CONTENT_CHANGED: 1.0},
                sampled_ms=now_ms,
                deadline_ms=deadline_ms,
            )
