"""The offline store: parquet files that are only ever added, one folder for each view, day and hour of event time.

A file appears under its name when it is whole and on the disk. What a crash left half written has another ending
and no reader looks at it. A batch that is pushed again gives rows that are there already, with a later time of
writing; historical reads take one of them.

Many small files make reads slow (600 files an hour at one batch in six seconds), so hours that are over are packed
into one file. The small ones stay for a while beside it, since a read may have begun; until then rows are there
twice, which again changes nothing.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureView, FileSource

from feature_store.definitions import CREATED, EVENT_TIME
from feature_store.rows import FeatureRow, arrow_schema, key_names, to_arrow

HOUR_US = 3_600_000_000
PACKED = "packed-"
UNFINISHED = ".unfinished"
#: In a packed file's metadata: the names of the files it holds.
_HOLDS = b"holds"
#: Small files live so long beside the packed one.
GRACE_S = 600.0
LATEST_BATCH = 5000


def folder_of(view: FeatureView) -> Path:
    """Return the folder of a view's files."""
    source = view.batch_source
    if not isinstance(source, FileSource):
        raise TypeError(f"expected {view.name} to have its history in files, got {type(source).__name__}")
    return Path(source.path)


def pattern(view: FeatureView) -> str:
    """Return the pattern of a view's files, as DuckDB reads them."""
    return str(folder_of(view) / "**/*.parquet")


def extent(view: FeatureView) -> tuple[int, int | None]:
    """Return how many rows a view's files hold, those that were written twice counted twice, and the newest one's
    event time in microseconds since the epoch, None without rows."""
    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT count(*), epoch_us(max({EVENT_TIME})) FROM read_parquet($1)",  # noqa: S608 (names are ours)
            [pattern(view)],
        ).fetchone()
    assert found is not None
    return int(found[0]), found[1]


def sample_keys(view: FeatureView, *, count: int, seed: int) -> tuple[list[tuple[str, ...]], int]:
    """Return a random sample of the keys that have rows, drawn by `seed`, and how many keys there are in all."""
    keys = ", ".join(f'"{name}"' for name in key_names(view))
    distinct = f"SELECT DISTINCT {keys} FROM read_parquet($1, union_by_name = true)"  # noqa: S608 (names are ours)
    with duckdb.connect() as connection:
        total = connection.execute(f"SELECT count(*) FROM ({distinct})", [pattern(view)]).fetchone()  # noqa: S608 (as above)
        found = connection.execute(
            f"{distinct} ORDER BY hash({keys}, $2), {keys} LIMIT $3", [pattern(view), seed, count]
        ).fetchall()
    assert total is not None
    return found, int(total[0])


def prepare(view: FeatureView) -> None:
    """Make a view's folder, with a file of no rows, since DuckDB refuses to read a folder without files."""
    _write(folder_of(view) / "schema.parquet", arrow_schema(view).empty_table())


def append(view: FeatureView, rows: Sequence[FeatureRow], *, created_us: int) -> list[Path]:
    """Add rows, written at `created_us` (microseconds since the epoch), and return the files made.

    When this returns, the rows are on the disk. Raises OSError if they can't be, pa.ArrowInvalid or
    pa.ArrowTypeError for a value of the wrong type.
    """
    by_hour: dict[int, list[FeatureRow]] = {}
    for row in rows:
        by_hour.setdefault(row.event_us // HOUR_US, []).append(row)
    made = []
    for hour, of_hour in sorted(by_hour.items()):
        moment = datetime.fromtimestamp(hour * 3600, UTC)
        path = (
            folder_of(view)
            / f"{moment:%Y-%m-%d}"
            / f"{moment:%H}"
            / f"{created_us}-{uuid.uuid4().hex}.parquet"
        )
        _write(path, to_arrow(view, of_hour, created_us=created_us))
        made.append(path)
    return made


def pack(view: FeatureView, *, now_s: float) -> int:
    """Pack each hour that is over into one file, let go of what was packed long ago, and return the files packed.

    One process may do this at a time, the one that appends.
    """
    packed = 0
    for hour in sorted(folder_of(view).glob("*/*")):
        started_s = datetime.strptime(f"{hour.parent.name} {hour.name} +0000", "%Y-%m-%d %H %z").timestamp()
        if now_s < started_s + 2 * 3600:
            continue
        packs = [
            (path.stat().st_mtime, (pq.read_schema(path).metadata or {}).get(_HOLDS, b"").decode().split(","))
            for path in hour.glob(f"{PACKED}*.parquet")
        ]
        held = {name for _, names in packs for name in names}
        # All are read before any goes: a pack may hold an earlier one.
        for packed_s, names in packs:
            if now_s - packed_s > GRACE_S:
                for name in names:
                    (hour / name).unlink(missing_ok=True)
        loose = sorted(path for path in hour.glob("*.parquet") if path.name not in held)
        if len(loose) > 1:
            table = pa.concat_tables(
                [pq.read_table(path, partitioning=None) for path in loose]
            ).combine_chunks()
            keys = [(name, "ascending") for name in (*key_names(view), EVENT_TIME, CREATED)]
            metadata = {_HOLDS: ",".join(path.name for path in loose).encode()}
            _write(
                hour / f"{PACKED}{uuid.uuid4().hex}.parquet",
                table.sort_by(keys).replace_schema_metadata(metadata),
            )
            packed += len(loose)
    for path in folder_of(view).rglob(f"*{UNFINISHED}"):
        if now_s - path.stat().st_mtime > GRACE_S:
            path.unlink(missing_ok=True)
    return packed


def latest(view: FeatureView, *, created_us: Sequence[int] | None = None) -> Iterator[list[FeatureRow]]:
    """Yield every key's row of the latest event time, in batches: what the online store should hold. With
    `created_us` only rows that were written at one of these times count."""
    names = key_names(view)
    keys = ", ".join(f'"{name}"' for name in names)
    columns = [field.name for field in arrow_schema(view)]
    features = [name for name in columns if name not in (*names, EVENT_TIME, CREATED)]
    written = "" if created_us is None else f"WHERE list_contains($2, epoch_us({CREATED})) "
    with duckdb.connect() as connection:
        found = connection.sql(
            f"SELECT * FROM read_parquet($1, union_by_name = true) {written}"  # noqa: S608 (names are ours)
            f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {EVENT_TIME} DESC, {CREATED} DESC) = 1",
            params=[pattern(view), *([] if created_us is None else [list(created_us)])],
        )
        for rows in found.to_arrow_reader(LATEST_BATCH):
            event_us = rows.column(EVENT_TIME).cast(pa.int64()).to_pylist()
            of = {name: rows.column(name).to_pylist() for name in (*names, *features)}
            yield [
                FeatureRow(
                    key=tuple(of[name][number] for name in names),
                    values={name: of[name][number] for name in features},
                    event_us=event_us[number],
                )
                for number in range(rows.num_rows)
            ]


def _write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    with unfinished.open("wb") as file:
        pq.write_table(table, file, compression="zstd", coerce_timestamps="us")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
