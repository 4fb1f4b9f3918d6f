"""The open pages of the partitions that a worker holds: when each may be let go, and how many are held.

The pages themselves lie, encoded, in a key-value store (the Faust table); this index only remembers deadlines,
in buckets of a minute, so that letting go costs nothing per event. About 0.95 KB a page of ten results.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping

import msgspec

from streams.attribution import Page

BUCKET_MS = 60_000
SEPARATOR = b":"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Page).decode


class OpenPages:
    """Pages by (partition, query_id) over a store of bytes. `lateness_ms` is the allowed lateness."""

    def __init__(
        self, store: MutableMapping[bytes, bytes], *, conversion_ms: int, lateness_ms: int, max_pages: int
    ) -> None:
        self._store = store
        self._conversion_ms = conversion_ms
        self._lateness_ms = lateness_ms
        self._max_pages = max_pages
        self._due: dict[int, set[bytes]] = {}
        self._due_of: dict[bytes, int] = {}

    def get(self, key: bytes) -> Page | None:
        """Return a page, decoded, or None."""
        stored = self._store.get(key)
        return _decode(stored) if stored else None

    def put(self, key: bytes, page: Page) -> bytes:
        """Store a page and return its bytes."""
        encoded = _encode(page)
        self._store[key] = encoded
        self._schedule(key, page)
        return encoded

    def rebuild(self, partitions: Iterable[int]) -> None:
        """Forget all but the given partitions and index what the store holds of them."""
        kept = set(partitions)
        for key in [key for key in self._store if partition_of(key) not in kept]:
            del self._store[key]
        self._due.clear()
        self._due_of.clear()
        for key, stored in list(self._store.items()):
            self._schedule(key, _decode(stored))

    def let_go(self, *, now_ms: int) -> list[bytes]:
        """Remove pages whose time is over, and the oldest beyond the maximum; return their keys."""
        current = now_ms // BUCKET_MS
        gone: list[bytes] = []
        for bucket in sorted(self._due):
            excess = len(self._due_of) - self._max_pages
            if bucket >= current and excess <= 0:
                break
            keys = sorted(self._due[bucket])
            if bucket >= current:
                keys = keys[:excess]
            for key in keys:
                self._unschedule(key)
                self._store.pop(key, None)
            gone += keys
        return gone

    def __len__(self) -> int:
        """Return how many pages are open."""
        return len(self._due_of)

    def _schedule(self, key: bytes, page: Page) -> None:
        until_ms = page.keep_until_ms(conversion_ms=self._conversion_ms, lateness_ms=self._lateness_ms)
        bucket = until_ms // BUCKET_MS
        if self._due_of.get(key) == bucket:
            return
        self._unschedule(key)
        self._due_of[key] = bucket
        self._due.setdefault(bucket, set()).add(key)

    def _unschedule(self, key: bytes) -> None:
        bucket = self._due_of.pop(key, None)
        if bucket is None:
            return
        keys = self._due[bucket]
        keys.discard(key)
        if not keys:
            del self._due[bucket]


def page_key(partition: int, query_id: str) -> bytes:
    """Return a page's key: partitions do not share pages."""
    return b"%d" % partition + SEPARATOR + query_id.encode("utf-8", "surrogatepass")


def partition_of(key: bytes) -> int:
    """Return the partition with which a key of the worker's tables begins."""
    return int(key.partition(SEPARATOR)[0])
