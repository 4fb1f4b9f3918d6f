"""Grade logits to a relevance score: the expectation of the grades' gains, in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def grade_distribution(logits: Floats) -> Floats:
    """Return probabilities [..., G] of logits [..., G].

    >>> grade_distribution(np.zeros((1, 2), dtype=np.float32)).tolist()
    [[0.5, 0.5]]
    """
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found: Floats = shifted / shifted.sum(axis=-1, keepdims=True)
    return found


def relevance_score(grades: Floats, gains: Sequence[float]) -> Floats:
    """Return scores [...] in [0, 1] of probabilities [..., G] and G gains."""
    found: Floats = np.clip(grades @ np.asarray(gains, dtype=np.float32), 0.0, 1.0).astype(np.float32)
    return found


def towers_score(
    query: Floats, items: Floats, *, slope: Sequence[float], offset: Sequence[float], gains: Sequence[float]
) -> Floats:
    """Return scores [n] of a query's vector [D] and item vectors [n, D], all of length 1: the grade logits are
    slope * cosine + offset."""
    cosine = items @ query
    logits = cosine[:, None] * np.asarray(slope, dtype=np.float32) + np.asarray(offset, dtype=np.float32)
    return relevance_score(grade_distribution(logits.astype(np.float32)), gains)
