"""The shop's catalogue on the topic `catalogue.items`: all of it once for each run directory, then what changes.

It is sent beside the live traffic, some items a tick, so nobody waits for it. A file in the run directory remembers
when it was first sent and which items have changed since and how often: a shop that starts again offers what it
offered before, and what it sends again has the same times.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from ops.files import write_atomically
from ops.shop.changing import revised
from ops.shop.items import Item
from ops.shop.traffic import Record
from streams.records import CatalogueItem
from streams.topics import CATALOGUE_ITEMS

ITEMS_A_TICK = 200
KIND = "item"


class Revision(msgspec.Struct, frozen=True, array_like=True):
    """How often an item has changed, and when last (epoch milliseconds)."""

    number: int
    changed_ms: int


class CatalogueMark(msgspec.Struct, frozen=True):
    """What a run directory remembers. `complete` tells whether the broker has had the whole catalogue."""

    first_ms: int
    complete: bool
    revisions: dict[str, Revision]


def path_in(run_dir: Path) -> Path:
    """Return the file that holds the mark."""
    return run_dir / "shop" / "catalogue.json"


class CatalogueFeed:
    """Sends and changes the catalogue. `current` are the items as they are offered now."""

    def __init__(
        self,
        run_dir: Path,
        items: Mapping[str, Item],
        *,
        changed_share_per_hour: float,
        seed: int,
        now_ms: int,
    ) -> None:
        """Take up where the run directory is. Raises ValueError if its mark is damaged."""
        self._path = path_in(run_dir)
        self._base = items
        self._ids = list(items)
        self._per_ms = changed_share_per_hour * len(items) / 3_600_000
        self._seed = seed
        self._rng = random.Random(f"changes {seed} {now_ms}")
        self._mark = _read(self._path) or CatalogueMark(first_ms=now_ms, complete=False, revisions={})
        self._changed_until_ms = now_ms
        revisions = self._mark.revisions
        self.current: dict[str, Item] = dict(items) | {
            item_id: revised(items[item_id], revision=revision.number, seed=seed)
            for item_id, revision in revisions.items()
            if item_id in items
        }
        #: What changed is sent again at every start: the shop may have ended before the broker had it.
        self._waiting: Iterator[str] = iter(
            list(items) if not self._mark.complete else [item_id for item_id in revisions if item_id in items]
        )
        self._write()

    @property
    def complete(self) -> bool:
        """Tell whether the broker has had the whole catalogue."""
        return self._mark.complete

    @property
    def changes(self) -> int:
        """Return how often items have changed in this run directory."""
        return sum(revision.number for revision in self._mark.revisions.values())

    def due(self, now_ms: int) -> list[Record]:
        """Return the next records of the catalogue that wait to be sent."""
        ids = [item_id for _, item_id in zip(range(ITEMS_A_TICK), self._waiting, strict=False)]
        return [self._record(item_id, now_ms) for item_id in ids]

    def change(self, now_ms: int) -> list[Record]:
        """Change so many items as are due since the last call, a Poisson stream, and return their records."""
        expected = max(0, now_ms - self._changed_until_ms) * self._per_ms
        self._changed_until_ms = now_ms
        changed: dict[str, Revision] = {}
        waited = self._rng.expovariate(1)
        while waited < expected:
            waited += self._rng.expovariate(1)
            item_id = self._rng.choice(self._ids)
            before = changed.get(item_id) or self._mark.revisions.get(item_id)
            changed[item_id] = Revision(before.number + 1 if before else 1, now_ms)
        if not changed:
            return []
        self._mark = msgspec.structs.replace(self._mark, revisions=self._mark.revisions | changed)
        # Before they are sent, so that an item never has two texts of one revision.
        self._write()
        for item_id, revision in changed.items():
            self.current[item_id] = revised(self._base[item_id], revision=revision.number, seed=self._seed)
        return [self._record(item_id, now_ms) for item_id in changed]

    def taken(self, items: int) -> None:
        """Note that the broker has taken so many records of items since the start."""
        if not self._mark.complete and items >= len(self._ids):
            self._mark = msgspec.structs.replace(self._mark, complete=True)
            self._write()

    def _record(self, item_id: str, now_ms: int) -> Record:
        item = self.current[item_id]
        revision = self._mark.revisions.get(item_id)
        offer = CatalogueItem(
            item_id=item_id,
            title=item.title,
            brand=item.brand,
            category=item.category,
            attributes=item.attributes,
            price=item.price,
            updated_ms=revision.changed_ms if revision else self._mark.first_ms,
        )
        return Record(now_ms, CATALOGUE_ITEMS, item_id, KIND, msgspec.to_builtins(offer))

    def _write(self) -> None:
        write_atomically(self._path, msgspec.json.encode(self._mark))


def _read(path: Path) -> CatalogueMark | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=CatalogueMark)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to send the catalogue again") from error
