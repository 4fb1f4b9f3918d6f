"""The one way in: rows of a view into the offline and then the online store.

Rows are sorted by event time, and of several for one key and event time the first is taken. The offline store
gets all of them. The online store gets each key's newest, and only where it is newer than what is there: Redis
sees to that itself, sqlite would let an older row overwrite a newer one. So what is pushed again changes nothing,
and what comes late is history only.

Offline comes first: a crash in between leaves a row that the next push of it writes online, or `settle`. The log of
pushes keeps when a push's rows were written and when all of them could be read. One process may write a view at a
time.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from feast import FeatureView
from feast.infra.online_stores.helpers import compute_table_id, get_online_store_from_config
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey as EntityKeyProto
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from google.protobuf.message import DecodeError
from redis.exceptions import RedisError

from feature_store import offline
from feature_store.definitions import AS_OF, PROJECT, Definitions
from feature_store.keys import entity_key
from feature_store.online import OnlineReads, OnlineStoreCorruptError, OnlineStoreError, corrupt, open_reads
from feature_store.push_log import PushLog
from feature_store.rows import FeatureRow, in_order, key_names, newest, to_protos
from feature_store.store import definitions, online_path, repo_config
from ops.settings import Settings

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SQLITE_WAIT_S = 5.0
#: While rows are written a read may see them or not, so few are written at a time.
ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Written:
    """What a push did: rows added to the offline store, rows that are new online, and rows left out there because
    a newer one was known. Rows that were there already are in neither."""

    offline: int
    online: int
    late: int


def now_us() -> int:
    """Return the time in microseconds since the epoch."""
    return time.time_ns() // 1000


class FeatureWriter:
    """Writes rows into both stores; `apply` must have been run. Not to be shared between threads."""

    def __init__(self, settings: Settings, *, clock_us: Callable[[], int] = now_us) -> None:
        self.definitions: Definitions = definitions(settings)
        # Each view's keys leave Redis with their time to live, of which Feast knows one for all.
        self._configs = {
            name: repo_config(settings, redis_key_ttl_s=int(view.ttl.total_seconds()) if view.ttl else None)
            for name, view in self.definitions.views.items()
        }
        self._store: OnlineStore | None = None
        self._inode = 0
        self._reads: OnlineReads = open_reads(settings)
        self._path = None if settings.features.redis.get_secret_value() else online_path(settings)
        self._clock_us = clock_us
        self._log = PushLog(settings)

    def write(
        self,
        view: str,
        rows: Iterable[FeatureRow],
        *,
        before_online: Callable[[Sequence[FeatureRow]], None] | None = None,
    ) -> Written:
        """Write rows of a view. `before_online` is called with the rows that are about to be new online, once
        these are in the offline store; if it raises, they come again with the next push.

        Raises OnlineStoreError, OSError (the offline store), KeyError or TypeError for a row that is none.
        """
        of = self.definitions.views[view]
        ordered = in_order(rows)
        known_us = self._known_us(of, list({row.key: None for row in ordered}))
        fresh = [row for row in ordered if row.event_us != known_us.get(row.key)]
        online = 0
        for start in range(0, len(fresh), ROWS_AT_ONCE):
            some = fresh[start : start + ROWS_AT_ONCE]
            begun_us = self._clock_us()
            self._log.begin(view, begun_us)
            offline.append(of, some, created_us=begun_us)
            newer = [row for key, row in newest(some).items() if row.event_us > known_us.get(key, 0)]
            if newer:
                if before_online is not None:
                    before_online(newer)
                self._write_online(of, newer)
            self._log.end(view, begun_us, self._clock_us())
            online += len(newer)
        late = sum(row.event_us < known_us.get(row.key, 0) for row in fresh)
        return Written(len(fresh), online, late)

    def restore(self, view: str, rows: Sequence[FeatureRow]) -> int:
        """Put rows of the offline store online, one row a key, where they are newer than what is there, and return
        how many were. Raises OnlineStoreError."""
        of = self.definitions.views[view]
        known_us = self._known_us(of, [row.key for row in rows])
        newer = [row for row in rows if row.event_us > known_us.get(row.key, 0)]
        if newer:
            self._write_online(of, newer)
        return len(newer)

    def settle(self, view: str) -> int:
        """Put online what pushes that a crash cut short wrote offline, and return how many rows were new there.

        Raises OnlineStoreError, OSError.
        """
        unfinished = self._log.unfinished(view)
        if not unfinished:
            return 0
        written = sum(
            self.restore(view, rows)
            for rows in offline.latest(self.definitions.views[view], created_us=unfinished)
        )
        for begun_us in unfinished:
            self._log.end(view, begun_us, self._clock_us())
        return written

    def _write_online(self, view: FeatureView, rows: Sequence[FeatureRow]) -> None:
        names = key_names(view)
        data: list[tuple[EntityKeyProto, dict[str, ValueProto], datetime, datetime | None]] = [
            (entity_key(names, row.key), protos, EPOCH + timedelta(microseconds=row.event_us), None)
            for row, protos in zip(rows, to_protos(view, rows), strict=True)
        ]
        try:
            self._online_store().online_write_batch(self._configs[view.name], view, data, progress=None)
        except RedisError as error:
            raise OnlineStoreError(f"Redis: {error}") from error
        except (sqlite3.OperationalError, OSError) as error:
            raise OnlineStoreError(f"{self._path}: {error}; has the store been applied?") from error
        except sqlite3.DatabaseError as error:
            assert self._path is not None
            raise corrupt(self._path, error) from error

    def read(
        self, view: str, keys: Sequence[tuple[str, ...]], features: Sequence[str]
    ) -> dict[tuple[str, ...], Mapping[str, ValueProto]]:
        """Return what the online store holds of keys, as Feast's values by feature; keys without a row are left
        out. `as_of_us` is a feature like the others. Raises OnlineStoreError."""
        found = self._reads.read(self.definitions.views[view], keys, features)
        try:
            return {
                key: {
                    name: ValueProto.FromString(value or b"")
                    for name, value in zip(features, row, strict=True)
                }
                for key, row in zip(keys, found, strict=True)
                if row is not None
            }
        except DecodeError as error:
            if self._path is None:
                raise OnlineStoreCorruptError(
                    f"Redis holds a value of {view} that is no Feast value"
                ) from error
            raise corrupt(self._path, error) from error

    def expire(self) -> int:
        """Delete what is past its view's time to live from sqlite and return how many values that were; Redis
        forgets by itself. Raises OnlineStoreError, OSError."""
        self._log.forget(now_us=self._clock_us())
        if self._path is None:
            return 0
        deleted = 0
        try:
            with closing(sqlite3.connect(self._path, timeout=SQLITE_WAIT_S)) as connection, connection:
                for view in self.definitions.views.values():
                    if view.ttl:
                        oldest = EPOCH + timedelta(microseconds=self._clock_us()) - view.ttl
                        # Feast stores UTC's digits as if they were local time.
                        stored_s = int(oldest.replace(tzinfo=None).timestamp())
                        deleted += connection.execute(
                            f'DELETE FROM "{compute_table_id(PROJECT, view)}" WHERE event_ts < ?',  # noqa: S608
                            (stored_s,),
                        ).rowcount
        except (sqlite3.OperationalError, OSError) as error:
            raise OnlineStoreError(f"{self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise corrupt(self._path, error) from error
        return deleted

    def close(self) -> None:
        """Let go of connections."""
        self._reads.close()
        self._store = None

    def _online_store(self) -> OnlineStore:
        """Return Feast's store, opened anew when another file was put in the place of sqlite's."""
        inode = self._path.stat().st_ino if self._path else 0
        if self._store is None or inode != self._inode:
            self._store = get_online_store_from_config(next(iter(self._configs.values())).online_store)
            self._inode = inode
        return self._store

    def _known_us(self, view: FeatureView, keys: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
        known = self.read(view.name, keys, (AS_OF,))
        return {key: int(values[AS_OF].int64_val) for key, values in known.items()}
