"""Which examples meet in a batch: drawn anew each epoch from the seed, so that any epoch can be made again.

Padding is work for nothing: within stretches of shuffled data batches are made of like lengths, and their order is
shuffled again. Where pairs of one query are to be compared they stay together in groups.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

#: Batches whose examples are sorted by length together: more waste less padding and mix less.
STRETCH = 32
#: Pairs of a query that stay together where they are compared.
GROUP = 4


def epoch_batches(
    lengths: Sequence[int],
    queries: Sequence[int],
    *,
    batch_pairs: int,
    seed: int,
    epoch: int,
    buckets: bool,
    grouped: bool,
) -> list[list[int]]:
    """Return the places of an epoch's examples, each once, in batches of `batch_pairs`, the last one smaller.

    `lengths` and `queries`, both of length N, are each example's tokens and the number of its query.
    """
    rng = random.Random(f"batches {seed} {epoch}")
    groups = _groups(queries, rng) if grouped else [[place] for place in range(len(lengths))]
    rng.shuffle(groups)
    if buckets:
        stretch = max(1, STRETCH * batch_pairs // (GROUP if grouped else 1))
        groups = [
            group
            for begin in range(0, len(groups), stretch)
            for group in sorted(groups[begin : begin + stretch], key=lambda g: max(lengths[p] for p in g))
        ]
    places = [place for group in groups for place in group]
    batches = [places[begin : begin + batch_pairs] for begin in range(0, len(places), batch_pairs)]
    rng.shuffle(batches)
    return batches


def share_of(batches: list[list[int]], *, process: int, processes: int) -> list[list[int]]:
    """Return one process's batches: as many as every other's, some given twice where they don't divide."""
    padded = batches + batches[: -len(batches) % processes]
    while len(padded) % processes:
        padded += batches[: -len(padded) % processes]
    return padded[process::processes]


def _groups(queries: Sequence[int], rng: random.Random) -> list[list[int]]:
    by_query: dict[int, list[int]] = {}
    for place, query in enumerate(queries):
        by_query.setdefault(query, []).append(place)
    groups = []
    for places in by_query.values():
        rng.shuffle(places)
        groups += [places[begin : begin + GROUP] for begin in range(0, len(places), GROUP)]
    return groups
