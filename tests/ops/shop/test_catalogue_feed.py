"""The catalogue on its topic: all of it once, changes as they come, the same again after a restart."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ops.shop.catalogue_feed import ITEMS_A_TICK, CatalogueFeed, path_in
from ops.shop.changing import revised
from ops.shop.items import Item
from ops.shop.traffic import Record
from streams.item_text import item_text
from streams.records import CatalogueItem

HOUR_MS = 3_600_000
NOW_MS = 1_800_000_000_000
ITEMS = {
    f"i{n}": Item(
        item_id=f"i{n}",
        title=f"Mug {n}",
        brand="Nova",
        category=("Home", "Mugs"),
        attributes={"size": "1 l", "colour": "red"},
        price=9.5,
    )
    for n in range(450)
}


def _feed(folder: Path, *, share: float = 0.5, now_ms: int = NOW_MS) -> CatalogueFeed:
    return CatalogueFeed(folder, ITEMS, changed_share_per_hour=share, seed=7, now_ms=now_ms)


def _offer(record: Record) -> CatalogueItem:
    assert (record.topic, record.kind) == ("catalogue.items", "item")
    offer = msgspec.convert(record.value, CatalogueItem)
    assert offer.item_id == record.key
    return offer


def test_the_whole_catalogue_goes_out_in_parts_and_once(tmp_path: Path) -> None:
    feed = _feed(tmp_path)
    parts = [feed.due(NOW_MS + n) for n in range(4)]
    assert [len(part) for part in parts] == [ITEMS_A_TICK, ITEMS_A_TICK, 50, 0]
    offers = [_offer(record) for part in parts for record in part]
    assert [offer.item_id for offer in offers] == list(ITEMS)
    assert offers[3].title == "Mug 3"
    assert {offer.updated_ms for offer in offers} == {NOW_MS}
    feed.taken(449)
    assert not feed.complete
    # The shop ends before the broker has had all: everything again, with the same times.
    feed = _feed(tmp_path, now_ms=NOW_MS + 5000)
    assert _offer(feed.due(NOW_MS + 5000)[0]).updated_ms == NOW_MS
    feed.taken(450)
    assert feed.complete
    assert _feed(tmp_path).due(NOW_MS) == []


def test_about_the_share_that_is_set_changes(tmp_path: Path) -> None:
    feed = _feed(tmp_path)
    changed = sum(len(feed.change(NOW_MS + second * 1000)) for second in range(3600))
    assert feed.changes == changed
    assert 180 < changed < 270
    assert _feed(tmp_path / "still", share=0).change(NOW_MS + HOUR_MS) == []
    # A clock that is set back changes nothing.
    assert feed.change(NOW_MS) == []


def test_a_shop_that_starts_again_offers_what_it_offered(tmp_path: Path) -> None:
    feed = _feed(tmp_path)
    feed.taken(len(ITEMS))
    records = feed.change(NOW_MS + HOUR_MS)
    last = {record.key: _offer(record) for record in records}
    assert all(offer.updated_ms == NOW_MS + HOUR_MS for offer in last.values())
    assert all(feed.current[item_id].title == offer.title for item_id, offer in last.items())
    again = _feed(tmp_path, now_ms=NOW_MS + 2 * HOUR_MS)
    assert again.current == feed.current
    # What changed may not have reached the broker; it goes out once more, as it was.
    sent: list[Record] = []
    while due := again.due(NOW_MS + 2 * HOUR_MS):
        sent += due
    assert {record.key: _offer(record) for record in sent} == last


def test_a_revision_is_another_text_and_always_the_same() -> None:
    texts = set()
    for number in range(1, 20):
        item = revised(ITEMS["i1"], revision=number, seed=7)
        assert item == revised(ITEMS["i1"], revision=number, seed=7)
        texts.add(item_text(title=item.title, brand=item.brand, attributes=item.attributes))
        assert item.price == 9.5
    assert len(texts) > 5
    assert item_text(title="Mug 1", brand="Nova", attributes=ITEMS["i1"].attributes) not in texts


def test_a_damaged_mark_is_named(tmp_path: Path) -> None:
    _feed(tmp_path)
    path_in(tmp_path).write_bytes(b"{")
    with pytest.raises(ValueError, match="delete it to send the catalogue again"):
        _feed(tmp_path)
