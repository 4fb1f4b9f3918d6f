"""The day before the experiment, sent once per run directory: searches without arms, lexically ranked.

They give each shopper a past, which CUPED compares with, and fill the query frequencies.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from ops.files import write_atomically
from ops.shop.scorers import Scorer
from ops.shop.traffic import Record, Traffic

DAY_MS = 24 * 3600 * 1000
#: History ends so long before the present that none of its purchases lies in the future.
ENDS_BEFORE_MS = 5 * 60 * 1000

logger = logging.getLogger(__name__)


class HistoryMark(msgspec.Struct, frozen=True):
    """What a run directory remembers: when its history ends, and whether the broker has all of it.

    The time is written before the first record is sent, so that a history that was cut short is sent again
    with the same ids, and nothing counts twice.
    """

    ends_ms: int
    complete: bool


def path_in(run_dir: Path) -> Path:
    """Return the file that holds the mark."""
    return run_dir / "shop" / "history.json"


def read_mark(run_dir: Path) -> HistoryMark | None:
    """Return the mark of a run directory, or None if there is none. Raises ValueError if it is damaged."""
    path = path_in(run_dir)
    try:
        return msgspec.json.decode(path.read_bytes(), type=HistoryMark)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ValueError(
            f"{path} is damaged ({error}); delete it to send the shop's history again"
        ) from error


def write_mark(run_dir: Path, mark: HistoryMark) -> None:
    """Remember the mark."""
    write_atomically(path_in(run_dir), msgspec.json.encode(mark))


def searches(
    traffic: Traffic, scorer: Scorer, *, count: int, ends_ms: int, seed: int
) -> Iterator[list[Record]]:
    """Yield the records of `count` searches at random times of the day that ends at `ends_ms`, by time."""
    rng = np.random.default_rng([seed, 2])
    times_ms = np.sort(rng.integers(ends_ms - DAY_MS, ends_ms - ENDS_BEFORE_MS, count))
    for at_ms in times_ms.tolist():
        yield traffic.search_before_experiment(at_ms, scorer)
