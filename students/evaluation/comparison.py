"""Rows of a table of scorers over the same pairs: each a mean over its runs (seeds), differences paired by query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from ops.evaluation import bootstrap
from ops.evaluation.bootstrap import RESAMPLES, Estimate
from ops.evaluation.metrics import Metric
from ops.evaluation.pairs import Floats, ScoredPairs

SEED = 7


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the pairs, its size, and the figures on it by metric."""

    queries: int
    pairs: int
    figures: dict[str, Estimate]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A scorer's figures by cut (all, head, torso, tail), or its differences from `against`; means over `runs`."""

    name: str
    runs: int
    cuts: dict[str, Cut]
    against: str = ""


def rows(
    scorers: Mapping[str, Sequence[ScoredPairs]], metrics: Mapping[str, Metric], *, resamples: int = RESAMPLES
) -> list[Row]:
    """Return a row of figures for each scorer, in order. Raises ValueError if the runs score other pairs."""
    found = []
    for name, runs in scorers.items():
        cuts = {}
        for cut, (kept, weights) in _cuts(runs, resamples).items():
            figures = {
                metric: bootstrap.mean_estimate(function, kept, weights)
                for metric, function in metrics.items()
            }
            cuts[cut] = Cut(queries=kept[0].queries, pairs=len(kept[0]), figures=figures)
        found.append(Row(name=name, runs=len(runs), cuts=cuts))
    return found


def differences(
    scorers: Mapping[str, Sequence[ScoredPairs]],
    compared: Sequence[tuple[str, str]],
    metrics: Mapping[str, Metric],
    *,
    resamples: int = RESAMPLES,
) -> list[Row]:
    """Return a row for each (ours, theirs): how much greater every metric is under ours. Raises ValueError."""
    found = []
    for ours, theirs in compared:
        cuts = {}
        others = _cuts(scorers[theirs], resamples)
        for cut, (mine, weights) in _cuts(scorers[ours], resamples).items():
            figures = {
                metric: bootstrap.mean_difference(function, mine, others[cut][0], weights)
                for metric, function in metrics.items()
            }
            cuts[cut] = Cut(queries=mine[0].queries, pairs=len(mine[0]), figures=figures)
        found.append(Row(name=ours, runs=len(scorers[ours]), cuts=cuts, against=theirs))
    return found


def _cuts(runs: Sequence[ScoredPairs], resamples: int) -> dict[str, tuple[list[ScoredPairs], Floats]]:
    """Return each cut's runs and its resamples, the same for every scorer of the same pairs."""
    of_run = [pairs.cuts() for pairs in runs]
    return {
        cut: (
            [each[cut] for each in of_run],
            bootstrap.resampled_weights(
                np.random.default_rng(SEED), queries=first.queries, resamples=resamples
            ),
        )
        for cut, first in of_run[0].items()
    }
