"""The oracle: a scorer that knows the truth. It is no model; it shows what a good one would be worth.

Until a student serves, it is the experiment's treatment. Its noise keeps it from being perfect.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from statistics import NormalDist

from ops.shop.items import Item
from ops.shop.truth import GAINS, Truth

_NORMAL = NormalDist()


class NoisyOracleScorer:
    """The true gain plus Gaussian noise that is the same whenever the pair is scored, cut to [0, 1]."""

    version = "oracle-with-noise"

    def __init__(self, truth: Truth, *, noise: float, seed: int) -> None:
        """`noise` is the standard deviation."""
        self._truth = truth
        self._noise = noise
        self._seed = seed

    def score(self, query: str, items: Sequence[Item]) -> list[float]:
        """Return the noisy gains. Raises KeyError for a query or item that the truth does not know."""
        return [
            min(
                1.0,
                max(0.0, GAINS[self._truth.grade(query, item.item_id)] + self._noise_of(query, item.item_id)),
            )
            for item in items
        ]

    def _noise_of(self, query: str, item_id: str) -> float:
        if not self._noise:
            return 0.0
        message = f"{self._seed}\0{query}\0{item_id}".encode()
        place = int.from_bytes(hashlib.blake2b(message, digest_size=8).digest(), "big")
        return self._noise * _NORMAL.inv_cdf(((place >> 11) + 0.5) / (1 << 53))
