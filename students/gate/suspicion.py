"""Suspicion: evidence that judgements are turned around or at random, summed over updates until there is enough.

Of a judgement it is the log of a ratio, in nats: how likely its grade is if a `TAMPERED` share of judgements is not
the teacher's own, over how likely the champions find it. What is not the teacher's own is half turned around on the
scale and half at random. Pairs that the champions know little of weigh little either way, whichever grade they get,
so that new kinds of items do not look like poison. What the sampler seeks, the champions' sure mistakes, does weigh:
an allowance is made for it.

Its sum over what exceeds its mean on held-out judgements, less an allowance, never below 0, is a cumulative sum
(Page 1954, "Continuous inspection schemes"). Without poison it walks with drift -d and variance s2 a judgement, and
over many looks exceeds S in a share exp(-2 d S / s2) of them: the stationary law of a reflected Brownian motion
(Harrison 1985, "Brownian Motion and Stochastic Flow Systems"). That share is the p-value here. It does not depend on
how judgements are cut into updates, and what few of one update show adds up with the next.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
#: Of judgements, in the alternative.
TAMPERED = 0.2
#: Champions are never surer than this that a grade is wrong: one judgement weighs 4.9 nats at most.
LEAST_PROBABILITY = 0.001
#: Standard errors of the mean on held-out judgements that the allowance takes in.
ALLOWED_ERRORS = 1.5
#: Suspicion grows no further than to such a p-value, so that it is soon gone when the poison is.
LEAST_P_VALUE = 1e-6
#: Judgements and queries that a mean needs.
LEAST_JUDGEMENTS = 50
LEAST_QUERIES = 10


class Suspicion(msgspec.Struct, frozen=True, kw_only=True):
    """`nats` >= 0 go into the next look; `rise` is how much greater the new judgements' mean is, in nats."""

    nats: float
    p_value: float
    rise: float


class Mean(msgspec.Struct, frozen=True, kw_only=True):
    """A mean with its variance, and the variance that one judgement adds to a sum."""

    value: float
    variance: float
    each: float


def weights(distributions: npt.ArrayLike, places: Sequence[int]) -> Floats:
    """Return the evidence of judgements in nats. `distributions` (judgements, grades) are the champions' over the
    scale's grades in order, `places` the grades' places in it.

    >>> sure, unsure = [0.7, 0.2, 0.06, 0.04], [0.25, 0.25, 0.25, 0.25]
    >>> weights([sure, sure, unsure], [0, 3, 3]).round(3).tolist()
    [-0.173, 1.155, 0.0]
    """
    likely = np.maximum(np.asarray(distributions, dtype=np.float64), LEAST_PROBABILITY)
    likely /= likely.sum(axis=1, keepdims=True)
    rows, grades = np.arange(len(likely)), likely.shape[1]
    chosen = np.asarray(places, dtype=np.intp)
    other = (likely[rows, grades - 1 - chosen] + 1 / grades) / 2
    found: Floats = np.log(1 - TAMPERED + TAMPERED * other / likely[rows, chosen])
    return found


def look(before_nats: float, held_out: Mean, new: Sequence[float], *, allowed: float) -> Suspicion:
    """Return the suspicion after the weights of new judgements, `allowed` nats each beside the held-out mean."""
    drift = allowed + ALLOWED_ERRORS * held_out.variance**0.5
    # Equal weights throughout have no variance; any rise beyond the allowance is then past chance.
    rate = 2 * drift / max(held_out.each, 1e-9)
    rise = float(np.mean(new)) - held_out.value if new else 0.0
    nats = min(max(0.0, before_nats + len(new) * (rise - drift)), -np.log(LEAST_P_VALUE) / rate)
    return Suspicion(nats=float(nats), p_value=float(np.exp(-rate * nats)), rise=rise)


def mean_of(values: Sequence[float], queries: Sequence[str]) -> Mean | None:
    """Return the mean of judgements' values; None where there are too few judgements or queries.

    Judgements of one query are alike, so the variance is that of a ratio of sums over queries (linearised; Cochran
    1977, section 6.3).
    """
    numbers = {query: number for number, query in enumerate(dict.fromkeys(queries))}
    if len(values) < LEAST_JUDGEMENTS or len(numbers) < LEAST_QUERIES:
        return None
    places = np.array([numbers[query] for query in queries])
    given = np.array(values, dtype=np.float64)
    sizes: Floats = np.bincount(places).astype(np.float64)
    mean = float(given.mean())
    residuals = np.bincount(places, weights=given) - mean * sizes
    variance = len(numbers) / (len(numbers) - 1) * float((residuals**2).sum()) / len(given) ** 2
    return Mean(value=mean, variance=variance, each=variance * len(given))
