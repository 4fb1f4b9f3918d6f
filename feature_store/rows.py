"""Rows of a feature view, and how they become Feast's values and parquet's columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from feast import FeatureView
from feast.protos.feast.types.Value_pb2 import FloatList
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from feast.types import Array, Bool, Bytes, FeastType, Float32, Float64, Int64, String

from feature_store.definitions import AS_OF, CREATED, EVENT_TIME

TIMESTAMP = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """One row: `key` in the order of `key_names`, every feature but `as_of_us`, and its event time.

    `event_us` is in microseconds since the epoch. A value of None means that there is none.
    """

    key: tuple[str, ...]
    values: Mapping[str, Any]
    event_us: int


def key_names(view: FeatureView) -> tuple[str, ...]:
    """Return a view's join keys in the order in which rows give them: sorted, as Feast serialises them."""
    return tuple(sorted(view.join_keys))


def feature_names(view: FeatureView) -> tuple[str, ...]:
    """Return the names of a view's features, `as_of_us` among them."""
    keys = set(key_names(view))
    return tuple(field.name for field in view.schema if field.name not in keys)


def in_order(rows: Iterable[FeatureRow]) -> list[FeatureRow]:
    """Return the rows by event time, one for each key and event time: the first that was given.

    >>> rows = [FeatureRow(("a",), {"n": 2}, 20), FeatureRow(("a",), {"n": 1}, 10), FeatureRow(("a",), {"n": 3}, 20)]
    >>> [row.values["n"] for row in in_order(rows)]
    [1, 2]
    """
    first: dict[tuple[tuple[str, ...], int], FeatureRow] = {}
    for row in rows:
        first.setdefault((row.key, row.event_us), row)
    return sorted(first.values(), key=lambda row: (row.event_us, row.key))


def newest(rows: Iterable[FeatureRow]) -> dict[tuple[str, ...], FeatureRow]:
    """Return each key's newest row; of several at one event time the first."""
    found: dict[tuple[str, ...], FeatureRow] = {}
    for row in rows:
        known = found.get(row.key)
        if known is None or row.event_us > known.event_us:
            found[row.key] = row
    return found


#: For each type of feature that the views use: how a value becomes Feast's message, and parquet's type.
_MAKE: dict[FeastType, tuple[Callable[[Any], ValueProto], pa.DataType]] = {
    Int64: (lambda value: ValueProto(int64_val=value), pa.int64()),
    Float64: (lambda value: ValueProto(double_val=value), pa.float64()),
    String: (lambda value: ValueProto(string_val=value), pa.string()),
    Bytes: (lambda value: ValueProto(bytes_val=value), pa.binary()),
    Bool: (lambda value: ValueProto(bool_val=value), pa.bool_()),
    Array(Float32): (lambda value: ValueProto(float_list_val=FloatList(val=value)), pa.list_(pa.float32())),
}


def to_protos(view: FeatureView, rows: Sequence[FeatureRow]) -> list[dict[str, ValueProto]]:
    """Return each row's features as Feast's messages. Raises KeyError for a missing feature, TypeError for a wrong
    value."""
    # Feast makes a view's schema anew whenever it is asked for, at the price of twenty values.
    of = {field.name: field.dtype for field in view.schema}
    make = {name: _MAKE[of[name]][0] for name in feature_names(view)}
    none = ValueProto()
    made = []
    for row in rows:
        missing = make.keys() - row.values.keys() - {AS_OF}
        if missing:
            raise KeyError(f"{view.name}: a row of {row.key!r} lacks {', '.join(sorted(missing))}")
        values = {**row.values, AS_OF: row.event_us}
        made.append(
            {
                name: none if (value := values[name]) is None else to_value(value)
                for name, to_value in make.items()
            }
        )
    return made


def arrow_schema(view: FeatureView) -> pa.Schema:
    """Return the schema of a view's parquet files: keys, features, event time, time of writing."""
    fields = [(name, pa.string()) for name in key_names(view)]
    of = {field.name: field.dtype for field in view.schema}
    fields += [(name, _MAKE[of[name]][1]) for name in feature_names(view)]
    return pa.schema([*fields, (EVENT_TIME, TIMESTAMP), (CREATED, TIMESTAMP)])


def to_arrow(view: FeatureView, rows: Sequence[FeatureRow], *, created_us: int) -> pa.Table:
    """Return rows as a table for the offline store."""
    schema = arrow_schema(view)
    columns: dict[str, Any] = {
        name: [row.key[number] for row in rows] for number, name in enumerate(key_names(view))
    }
    columns |= {
        name: [row.event_us if name == AS_OF else row.values[name] for row in rows]
        for name in feature_names(view)
    }
    columns[EVENT_TIME] = [row.event_us for row in rows]
    columns[CREATED] = [created_us] * len(rows)
    return pa.table(
        [pa.array(columns[field.name], type=field.type) for field in schema],
        schema=schema,
    )
