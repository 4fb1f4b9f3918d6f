"""Which arm a unit (a shopper) gets: a pure function of names, so every process agrees without asking.

The unit's place in [0, 1) is the first 53 bits of BLAKE2b over (experiment, salt, unit), each preceded by its
length so that no two triples share a message. The arms lie on [0, 1) in the order given, each as wide as
its share: growing the last arm's neighbour moves only the units at that border.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

#: How far the shares may be from summing to 1, for thirds and the like.
SHARE_TOLERANCE = 1e-9


def place(*, experiment: str, unit: str, salt: str) -> float:
    """Return the unit's place in [0, 1), uniform over units and independent across experiments and salts.

    >>> place(experiment="ranking", unit="shopper-1", salt="")
    0.7347370025373527
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in (experiment, salt, unit):
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return (int.from_bytes(digest.digest(), "big") >> 11) / (1 << 53)


def assign(*, experiment: str, unit: str, salt: str, arms: Sequence[tuple[str, float]]) -> str:
    """Return the name of the unit's arm.

    `arms` holds (name, share) with different names and shares in [0, 1] that sum to 1; an arm with share 0
    gets nobody. Raises ValueError if they do not, or if `experiment` or `unit` is empty.

    >>> assign(experiment="ranking", unit="shopper-1", salt="", arms=[("control", 0.5), ("treatment", 0.5)])
    'treatment'
    """
    if not experiment or not unit:
        raise ValueError(f"expected an experiment and a unit, got {experiment!r} and {unit!r}")
    check_arms(arms)
    at = place(experiment=experiment, unit=unit, salt=salt)
    upper = 0.0
    chosen = ""
    for name, share in arms:
        if share == 0:
            continue
        upper += share
        chosen = name
        if at < upper:
            break
    return chosen


def check_arms(arms: Sequence[tuple[str, float]]) -> None:
    """Raise ValueError unless the arms have different, non-empty names and shares that sum to 1."""
    names = [name for name, _ in arms]
    if not all(names) or len(set(names)) != len(names):
        raise ValueError(f"expected arms with different, non-empty names, got {names}")
    shares = [share for _, share in arms]
    # The comparison is false for NaN too.
    if not all(0 <= share <= 1 for share in shares) or not math.isclose(
        math.fsum(shares), 1, abs_tol=SHARE_TOLERANCE
    ):
        raise ValueError(f"expected shares in [0, 1] that sum to 1, got {shares}")
