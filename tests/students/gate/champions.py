"""What simulated champions think of pairs, and the grades of a teacher that thinks alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
MIX = (0.36, 0.32, 0.13, 0.19)


def distributions(rng: np.random.Generator, count: int, *, per_query: int = 4) -> Floats:
    """Return (count, 4) probabilities that give the likeliest grade 0.8 or so, alike within a query."""
    easy = np.repeat(rng.normal(0, 0.5, -(-count // per_query)), per_query)[:count]
    logits = rng.normal(0, 0.5, (count, 4))
    logits[np.arange(count), rng.choice(4, count, p=MIX)] += np.maximum(
        3 + easy + rng.normal(0, 0.7, count), 0
    )
    likely = np.exp(logits)
    found: Floats = likely / likely.sum(axis=1, keepdims=True)
    return found


def grades_of(rng: np.random.Generator, likely: Floats) -> npt.NDArray[np.int64]:
    """Draw the places of grades from distributions."""
    drawn = (rng.random((len(likely), 1)) > likely.cumsum(axis=1)).sum(axis=1)
    found: npt.NDArray[np.int64] = np.minimum(drawn, likely.shape[1] - 1)
    return found
