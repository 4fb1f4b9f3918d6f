"""Past judgements to learn from again: a bounded sample in which head, torso, tail and old periods stay represented.

A stratum is a class of traffic in a period. Periods are stretches of updates of equal length; when there are more
than `MOST_PERIODS` the stretches double. The capacity is shared evenly among the strata, and what a small one does
not need goes to the others. Within a stratum the judgements with the smallest seeded hash of their identity stay: a
uniform sample that does not depend on the order of arrival and can be made again from the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from students.incremental.judged import Judged

MOST_PERIODS = 8


class Stored(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A judgement and the update that it came with, from 1; 0 for what the first student had learned before."""

    judged: Judged
    update: int


def period_length(updates: int) -> int:
    """Return how many updates make a period: a power of two.

    >>> [period_length(updates) for updates in (1, 8, 9, 40)]
    [1, 1, 2, 8]
    """
    length = 1
    while updates > MOST_PERIODS * length:
        length *= 2
    return length


def even_shares(sizes: Mapping[tuple[str, int], int], total: int) -> dict[tuple[str, int], int]:
    """Return how many of each stratum are taken: alike, as far as they have so many; the sum is at most `total`.

    >>> even_shares({("tail", 0): 10, ("head", 0): 2, ("tail", 1): 10}, 12)
    {('head', 0): 2, ('tail', 0): 5, ('tail', 1): 5}
    """
    left, taken = total, {}
    waiting = sorted(sizes, key=lambda stratum: (sizes[stratum], stratum))
    for number, stratum in enumerate(waiting):
        taken[stratum] = min(sizes[stratum], left // (len(waiting) - number))
        left -= taken[stratum]
    return taken


def kept(stored: Iterable[Stored], *, capacity: int, updates: int, seed: int) -> list[Stored]:
    """Return what stays of a store after `updates` updates, by identity."""
    return sorted(
        _drawn(stored, count=capacity, updates=updates, salt=f"kept {seed}"), key=lambda s: s.judged.identity
    )


def replayed(
    stored: Sequence[Stored], *, count: int, update: int, seed: int, without: Collection[str]
) -> list[Judged]:
    """Return `count` judgements to learn from again with an update, those `without` left out, alike of all strata."""
    others = [each for each in stored if each.judged.identity not in without]
    drawn = _drawn(others, count=count, updates=update, salt=f"replayed {seed} {update}")
    return sorted((each.judged for each in drawn), key=lambda judged: judged.identity)


def _drawn(stored: Iterable[Stored], *, count: int, updates: int, salt: str) -> list[Stored]:
    length = period_length(updates)
    strata: dict[tuple[str, int], list[Stored]] = {}
    for each in stored:
        strata.setdefault((each.judged.traffic_class, (each.update - 1) // length), []).append(each)
    shares = even_shares({stratum: len(of) for stratum, of in strata.items()}, count)
    return [
        each
        for stratum, of in strata.items()
        for each in sorted(of, key=lambda s: _priority(salt, s.judged.identity))[: shares[stratum]]
    ]


def _priority(salt: str, identity: str) -> bytes:
    return hashlib.blake2b(f"{salt} {identity}".encode(), digest_size=8).digest()
