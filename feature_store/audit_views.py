"""Does the online store hold what training reads? Rows of any view, read now and compared with history.

Reads of pair engagement are logged with the searches they were made for (`feature_store.audit`). Of the other views
a sample of the keys is read as serving reads them, time to live included, and compared with the historical query of
the same moment in the same way: by every feature, vectors by every bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feast import FeatureStore, FeatureView
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from feast.types import Array, Bool, FeastType, Float32, Float64, Int64
from google.protobuf.message import DecodeError

from feature_store.audit import Audit, compare, history_of, missing
from feature_store.definitions import AS_OF
from feature_store.online import OnlineReads, OnlineStoreError
from feature_store.push_log import PushLog
from feature_store.rows import feature_names

#: A read of few keys is short, so few pushes fall into it.
KEYS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class StoredRead:
    """A row as it was read: `served` has every feature by name, None where there is no row."""

    key: tuple[str, ...]
    read_us: int | None
    answered_us: int | None
    served: Mapping[str, Any] | None

    @property
    def as_of_us(self) -> int | None:
        """Return the row's event time."""
        return self.served[AS_OF] if self.served else None


def read_now(
    online: OnlineReads, view: FeatureView, keys: Sequence[tuple[str, ...]], *, clock_us: Callable[[], int]
) -> list[StoredRead]:
    """Read keys from the online store as serving does: a row past its time to live is none."""
    ttl_us = int(view.ttl.total_seconds() * 1e6) if view.ttl else 0
    names = feature_names(view)
    found: list[StoredRead] = []
    for start in range(0, len(keys), KEYS_AT_ONCE):
        some = keys[start : start + KEYS_AT_ONCE]
        read_us = clock_us()
        try:
            rows = [_decoded(view, names, row) for row in online.read(view, some, names)]
        except OnlineStoreError:
            found += [StoredRead(key, None, None, None) for key in some]
            continue
        answered_us = clock_us()
        for key, row in zip(some, rows, strict=True):
            alive = row is not None and (not ttl_us or row[AS_OF] >= read_us - ttl_us)
            found.append(StoredRead(key, read_us, answered_us, row if alive else None))
    return found


def audit_view(
    store: FeatureStore, view: FeatureView, log: PushLog, reads: Sequence[StoredRead]
) -> Audit[StoredRead]:
    """Compare reads of a view with history. Raises OSError if the log of pushes can't be read."""
    names = feature_names(view)
    types = {field.name: field.dtype for field in view.schema}

    def expected(some: Sequence[StoredRead]) -> list[Mapping[str, Any] | None]:
        return [
            None if missing(row[AS_OF]) else {name: _plain(types[name], value) for name, value in row.items()}
            for row in history_of(store, view, some, names)
        ]

    return compare(view, log, reads, expected)


def _decoded(
    view: FeatureView, names: Sequence[str], row: Sequence[bytes | None] | None
) -> dict[str, Any] | None:
    if row is None:
        return None
    made: dict[str, Any] = {}
    for name, raw in zip(names, row, strict=True):
        try:
            value = ValueProto.FromString(raw or b"")
        except DecodeError as error:
            raise OnlineStoreError(f"a value of {view.name} is no Feast value: {error}") from error
        kind = value.WhichOneof("val")
        if kind is None:
            made[name] = None
        elif kind == "float_list_val":
            made[name] = tuple(value.float_list_val.val)
        else:
            made[name] = getattr(value, kind)
    return made


def _plain(of: FeastType, value: Any) -> Any:
    """Return a value of a historical frame, in which a gap makes whole numbers floats and is NaN itself."""
    if of == Array(Float32):
        return None if value is None else tuple(float(each) for each in value)
    if missing(value):
        return None
    if of == Int64:
        return int(value)
    if of == Float64:
        return float(value)
    return bool(value) if of == Bool else value
