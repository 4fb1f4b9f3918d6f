"""Bulk reads of the online store, past Feast's Python: one round trip for all keys of a view.

They read what Feast writes, in its own format: in sqlite a table for each view with a line for each feature, in
Redis a hash for each key. Both return serialised `feast` values.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from feast import FeatureView
from feast.infra.online_stores.helpers import _mmh3, compute_table_id
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from feature_store.definitions import AS_OF, PROJECT
from feature_store.keys import serialised
from feature_store.rows import key_names
from feature_store.store import online_path, redis_config
from ops.settings import Settings

#: Well below sqlite's limit of 32,766 variables in a statement.
KEYS_A_STATEMENT = 10_000
SQLITE_BUSY_S = 0.1

Found = list[list[bytes | None] | None]


class OnlineStoreError(Exception):
    """The online store does not answer."""


class OnlineStoreCorruptError(OnlineStoreError):
    """What the online store holds can't be read. The message says how to make it anew."""


class OnlineReads(Protocol):
    """Reads many rows of a view at once."""

    def read(self, view: FeatureView, keys: Sequence[Sequence[str]], features: Sequence[str]) -> Found:
        """Return for each key its features' serialised values (None: no value), or None if it has no row.

        Keys are in the order of `rows.key_names`. Raises OnlineStoreError.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def open_reads(settings: Settings) -> OnlineReads:
    """Return the reads of the online store that the settings name. Connects at the first read."""
    if settings.features.redis.get_secret_value():
        return RedisReads(redis_config(settings), timeout_s=settings.features.redis_timeout_s)
    return SqliteReads(online_path(settings))


class SqliteReads:
    """Reads Feast's sqlite file; for the thread that reads first. A file that was put in its place is noticed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def read(self, view: FeatureView, keys: Sequence[Sequence[str]], features: Sequence[str]) -> Found:
        """See `OnlineReads`."""
        column = {name: number for number, name in enumerate(dict.fromkeys((*features, AS_OF)))}
        by_key: dict[bytes, list[bytes | None]] = {}
        ids = serialised(key_names(view), keys)
        table = compute_table_id(PROJECT, view)
        try:
            connection = self._connected()
            for start in range(0, len(ids), KEYS_A_STATEMENT):
                some = ids[start : start + KEYS_A_STATEMENT]
                found = connection.execute(
                    f'SELECT entity_key, feature_name, value FROM "{table}" '  # noqa: S608 (names are ours)
                    f"WHERE entity_key IN ({','.join('?' * len(some))}) "
                    f"AND feature_name IN ({','.join('?' * len(column))})",
                    [*some, *column],
                )
                for key, feature, value in found:
                    row = by_key.get(key)
                    if row is None:
                        row = by_key[key] = [None] * len(column)
                    row[column[feature]] = value
        except (sqlite3.OperationalError, OSError) as error:
            self.close()
            raise OnlineStoreError(f"{self._path}: {error}; has the store been applied?") from error
        except sqlite3.DatabaseError as error:
            self.close()
            raise corrupt(self._path, error) from error
        stamp, count = column[AS_OF], len(features)
        return [row[:count] if (row := by_key.get(key)) and row[stamp] else None for key in ids]

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        inode = self._path.stat().st_ino
        if self._connection is None or inode != self._inode:
            self.close()
            self._connection = sqlite3.connect(
                f"{self._path.as_uri()}?mode=ro", uri=True, timeout=SQLITE_BUSY_S
            )
            self._inode = inode
        return self._connection


class RedisReads:
    """Reads Feast's hashes in Redis, through the client that Feast makes of its connection string."""

    def __init__(self, config: RedisOnlineStoreConfig, *, timeout_s: float) -> None:
        limits = f",socket_timeout={timeout_s},socket_connect_timeout={timeout_s}"
        limited = config.model_copy(update={"connection_string": config.connection_string + limits})
        self._client = RedisOnlineStore()._get_client(limited)
        # Its own retries wait for seconds; the reader has a cache to answer from.
        self._client.set_retry(Retry(NoBackoff(), 0))

    def read(self, view: FeatureView, keys: Sequence[Sequence[str]], features: Sequence[str]) -> Found:
        """See `OnlineReads`."""
        fields = [_mmh3(f"{view.name}:{name}") for name in (*features, AS_OF)]
        project = PROJECT.encode()
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for key in serialised(key_names(view), keys):
                    pipeline.hmget(key + project, fields)
                found = pipeline.execute()
        except RedisError as error:
            raise OnlineStoreError(f"Redis: {error}") from error
        return [row[:-1] if row[-1] else None for row in found]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def corrupt(path: Path, error: Exception) -> OnlineStoreCorruptError:
    """Return the error that says what to do about a damaged file."""
    return OnlineStoreCorruptError(
        f"{path}: expected Feast's online store, found a damaged file ({error}); make it anew from the "
        "offline store: relevance features rebuild"
    )
