"""Does training read what serving read? Logged reads compared with the historical query of the same moment.

A read is compared at `read_us`, the moment the ad engine asked the online store: what it served from its cache later
is still that answer. The historical query takes rows with an event time not after this moment, written by then, and
within their time to live, by the same definitions. Both must be equal in every bit.

Some reads have no single right answer and are counted apart, by reason:
- `unanswered`: the online store did not answer, and nothing was served;
- `being_written`: a row was offline but not surely online yet while the store was asked (`push_log`). Then the answer
  must still be the row before or the row being written; anything else counts as different;
- `being_rebuilt`: the online store was being made anew;
- `clocks_differ`: the row served is from after the moment it was read;
- `before_the_log`: older than the log of pushes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from feast import FeatureStore, FeatureView

from feature_store import offline
from feature_store.definitions import AS_OF, CREATED, EVENT_TIME
from feature_store.history import historical
from feature_store.push_log import Push, PushLog
from feature_store.reader import PAIR_FEATURES, Engagement
from feature_store.rows import key_names

MAX_EXAMPLES = 20
#: Reads of one historical query, so that memory stays small.
READS_AT_ONCE = 20_000

UNANSWERED = "unanswered"
BEING_WRITTEN = "being_written"
BEING_REBUILT = "being_rebuilt"
CLOCKS_DIFFER = "clocks_differ"
BEFORE_THE_LOG = "before_the_log"


class Read(Protocol):
    """A read of one row: `key` as `rows.key_names` orders it, when the online store was asked and had answered (None
    where it did not), what it said, and the event time of that (None where there was no row)."""

    @property
    def key(self) -> tuple[str, ...]: ...
    @property
    def read_us(self) -> int | None: ...
    @property
    def answered_us(self) -> int | None: ...
    @property
    def served(self) -> Any: ...
    @property
    def as_of_us(self) -> int | None: ...


R = TypeVar("R", bound=Read)


@dataclass(frozen=True, slots=True)
class LoggedRead:
    """One pair of a logged read. `read_us` and `answered_us` are None where the store did not answer."""

    event_id: str
    query: str
    item_id: str
    read_us: int | None
    answered_us: int | None
    served: Engagement | None

    @property
    def key(self) -> tuple[str, ...]:
        """Return the pair as the view's key."""
        return self.item_id, self.query

    @property
    def as_of_us(self) -> int | None:
        """Return the event time of what was served."""
        return self.served.as_of_us if self.served else None


@dataclass(frozen=True, slots=True)
class Difference(Generic[R]):
    """A read that training would see otherwise."""

    read: R
    expected: Any


@dataclass(slots=True)
class Audit(Generic[R]):
    """What an audit found. `compared` = `equal` + `different`; `examples` are the first differences."""

    reads: int = 0
    equal: int = 0
    different: int = 0
    not_comparable: Counter[str] = field(default_factory=Counter)
    examples: list[Difference[R]] = field(default_factory=list)

    @property
    def compared(self) -> int:
        """Return how many reads had one right answer, or a wrong one."""
        return self.equal + self.different

    def differs(self, read: R, expected: Any) -> None:
        """Count a difference."""
        self.different += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(Difference(read, expected))


def audit_engagement(
    store: FeatureStore, view: FeatureView, log: PushLog, reads: Sequence[LoggedRead]
) -> Audit[LoggedRead]:
    """Compare logged reads of pair engagement with history; `view` is its definition, with its files.

    Raises OSError if the log of pushes can't be read.
    """

    def expected(some: Sequence[LoggedRead]) -> list[Engagement | None]:
        return [_engagement(row) for row in history_of(store, view, some, PAIR_FEATURES)]

    return compare(view, log, reads, expected)


def compare(
    view: FeatureView, log: PushLog, reads: Sequence[R], expected: Callable[[Sequence[R]], Sequence[Any]]
) -> Audit[R]:
    """Compare reads of a view with what `expected` returns for them, in order: the row of their moments in history.

    Raises OSError if the log of pushes can't be read.
    """
    found: Audit[R] = Audit()
    pushes, rebuilds = log.pushes(view.name), log.rebuilds()
    for start in range(0, len(reads), READS_AT_ONCE):
        _compare_some(found, view, pushes, rebuilds, reads[start : start + READS_AT_ONCE], expected)
    return found


def _compare_some(
    found: Audit[R],
    view: FeatureView,
    pushes: Sequence[Push],
    rebuilds: Sequence[Push],
    reads: Sequence[R],
    expected: Callable[[Sequence[R]], Sequence[Any]],
) -> None:
    found.reads += len(reads)
    first_us = pushes[0].begun_us if pushes else None
    comparable: list[tuple[R, int, int]] = []
    for read in reads:
        if read.read_us is None or read.answered_us is None:
            found.not_comparable[UNANSWERED] += 1
        elif read.as_of_us is not None and (first_us is None or read.read_us < first_us):
            found.not_comparable[BEFORE_THE_LOG] += 1
        elif read.as_of_us is not None and read.as_of_us > read.read_us:
            found.not_comparable[CLOCKS_DIFFER] += 1
        elif _overlaps(rebuilds, read.read_us, read.answered_us):
            found.not_comparable[BEING_REBUILT] += 1
        else:
            comparable.append((read, read.read_us, read.answered_us))
    if not comparable:
        return
    settled, written = _being_written(view, comparable, pushes, rebuilds)
    rows = expected([read for read, _, _ in comparable])
    for number, ((read, _, _), row) in enumerate(zip(comparable, rows, strict=True)):
        if number in written:
            if read.as_of_us in {settled.get(number), *written[number]}:
                found.not_comparable[BEING_WRITTEN] += 1
            else:
                found.differs(read, row)
        elif read.served == row:
            found.equal += 1
        else:
            found.differs(read, row)


def _overlaps(rebuilds: Sequence[Push], from_us: int, to_us: int) -> bool:
    return any(
        one.begun_us <= to_us and (one.online_us is None or one.online_us >= from_us) for one in rebuilds
    )


def history_of(
    store: FeatureStore, view: FeatureView, reads: Sequence[Read], features: Sequence[str]
) -> list[dict[str, Any]]:
    """Return, for reads in order, the features that history has of a view's rows at the moments of reading."""
    names = key_names(view)
    keys = {name: [read.key[place] for read in reads] for place, name in enumerate(names)}
    moments = pd.to_datetime([read.read_us for read in reads], unit="us", utc=True)
    entities = pd.DataFrame({**keys, EVENT_TIME: moments, "number": np.arange(len(reads))})
    frame = historical(store, entities, [f"{view.name}:{name}" for name in features])
    made: list[dict[str, Any]] = [{}] * len(reads)
    for number, *values in frame[["number", *features]].itertuples(index=False, name=None):
        made[number] = dict(zip(features, values, strict=True))
    return made


def _engagement(values: dict[str, Any]) -> Engagement | None:
    """Return a row of a historical frame, in which a gap makes whole numbers floats and is NaN itself."""
    if missing(values[AS_OF]):
        return None
    return Engagement(
        impressions=int(values["impressions"]),
        clicks=int(values["clicks"]),
        purchases=int(values["purchases"]),
        expected_clicks=float(values["expected_clicks"]),
        coec=None if missing(values["coec"]) else float(values["coec"]),
        as_of_us=int(values[AS_OF]),
    )


def missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _being_written(
    view: FeatureView,
    reads: Sequence[tuple[Read, int, int]],
    pushes: Sequence[Push],
    rebuilds: Sequence[Push],
) -> tuple[dict[int, int], dict[int, list[int]]]:
    """Return for reads, by number: the newest row that was surely online, and the newer ones that may have been.

    A row is surely online from the end of the first push, or rebuild, that holds it; it can't be before the first
    of its pushes began. A push that the log has forgotten had ended.
    """
    names = key_names(view)
    keys = ", ".join(names)
    asked = pa.table(
        {
            "number": pa.array(range(len(reads)), pa.int64()),
            **{
                name: pa.array([read.key[place] for read, _, _ in reads], pa.string())
                for place, name in enumerate(names)
            },
            "read_us": pa.array([read_us for _, read_us, _ in reads], pa.int64()),
            "answered_us": pa.array([answered_us for _, _, answered_us in reads], pa.int64()),
        }
    )
    with duckdb.connect() as connection:
        connection.register("asked", asked)
        for name, logged in (("pushes", pushes), ("rebuilds", rebuilds)):
            table = {
                "begun_us": pa.array([push.begun_us for push in logged], pa.int64()),
                "online_us": pa.array([push.online_us for push in logged], pa.int64()),
            }
            connection.register(name, pa.table(table))
        rows = connection.execute(
            f"""
            WITH written AS (
                SELECT {keys}, {AS_OF}, epoch_us({CREATED}) AS written_us
                FROM read_parquet($1, union_by_name = true) SEMI JOIN asked USING ({keys})
            ), known AS (
                SELECT {keys}, {AS_OF}, min(written_us) AS written_us,
                    least(
                        min(pushes.online_us),
                        min(written_us) FILTER (pushes.begun_us IS NULL),
                        min((SELECT min(online_us) FROM rebuilds WHERE rebuilds.begun_us >= written.written_us))
                    ) AS online_us
                FROM written LEFT JOIN pushes ON pushes.begun_us = written.written_us
                GROUP BY ALL
            ), settled AS (
                SELECT number, max({AS_OF}) AS newest FROM asked JOIN known USING ({keys})
                WHERE known.online_us <= asked.read_us GROUP BY number
            )
            SELECT number, settled.newest, list({AS_OF}) FILTER (
                written_us <= answered_us AND (online_us IS NULL OR online_us > read_us)
                AND {AS_OF} > coalesce(settled.newest, 0)
            )
            FROM asked JOIN known USING ({keys}) LEFT JOIN settled USING (number)
            GROUP BY number, settled.newest""",  # noqa: S608 (names are ours)
            [offline.pattern(view)],
        ).fetchall()
    settled = {number: newest for number, newest, _ in rows if newest is not None}
    return settled, {number: newer for number, _, newer in rows if newer}
