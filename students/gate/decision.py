"""The gate's decision: a challenger passes if it is not worse overall, better on the tail, as calibrated and as fast.

Differences are challenger minus champion on the same pairs, resampled by query (`ops.evaluation.bootstrap`). *Better*
means that the lower end of the interval of level 1 - 2 alpha is above `tail_gain`, so that a challenger that is no
better passes in at most a share alpha of decisions; *not worse* that it is above -margin. Each decision stands for
itself: many in a row let one through by chance more often than one does.
"""

from __future__ import annotations

import msgspec
import numpy as np

from ops.evaluation.bootstrap import Estimate, difference, resampled_weights
from ops.evaluation.metrics import METRICS
from ops.evaluation.pairs import ScoredPairs
from ops.settings import Gate

#: On the golden set; on the tail it is the first.
QUALITY = ("auc", "ndcg_at_10")
CALIBRATION = "ece"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """`passed`, why, in a line for people, and the figures by name."""

    passed: bool
    why: str
    figures: dict[str, float]


def decide(
    *,
    golden: tuple[ScoredPairs, ScoredPairs],
    tail: tuple[ScoredPairs, ScoredPairs],
    pair_ms: tuple[float, float],
    gate: Gate,
    seed: int,
) -> Decision:
    """Decide over a challenger; each pair of values is (challenger's, champion's).

    `golden` are pairs that people graded, `tail` those of them that are of tail queries and recent judgements of
    such, none of them learned from; `pair_ms` the milliseconds that a pair's score takes. Raises ValueError if the
    two did not score the same pairs.
    """
    rng = np.random.default_rng(seed)
    figures: dict[str, float] = {}
    against: list[str] = []
    level = 1 - 2 * gate.alpha

    golden_weights = resampled_weights(rng, queries=golden[0].queries)
    for name in QUALITY:
        found = difference(METRICS[name], *golden, golden_weights, level=level)
        figures |= _figures(f"golden.{name}", found)
        if found.lower is None:
            against.append(f"golden {name} has no interval ({found.why})")
        elif found.lower < -gate.margin:
            against.append(f"golden {name} may be worse by {-found.lower:.4f}, at most {gate.margin:g}")
    found = difference(METRICS[CALIBRATION], *golden, golden_weights, level=level)
    figures |= _figures(f"golden.{CALIBRATION}", found)
    if found.value is None or found.value > gate.calibration_margin:
        told = found.why if found.value is None else f"{found.value:.4f} worse"
        against.append(f"calibration is {told}, at most {gate.calibration_margin:g}")

    figures |= {"tail.queries": float(tail[0].queries), "tail.pairs": float(len(tail[0]))}
    if tail[0].queries < gate.least_queries:
        against.append(f"{tail[0].queries} unseen tail queries, {gate.least_queries} are needed")
    else:
        tail_weights = resampled_weights(rng, queries=tail[0].queries)
        found = difference(METRICS[QUALITY[0]], *tail, tail_weights, level=level)
        figures |= _figures(f"tail.{QUALITY[0]}", found)
        if found.lower is None:
            against.append(f"tail {QUALITY[0]} has no interval ({found.why})")
        elif found.lower <= gate.tail_gain:
            against.append(
                f"tail {QUALITY[0]} {found.value:+.4f} is not surely above {gate.tail_gain:g}: "
                f"it may be {found.lower:+.4f}"
            )

    figures |= {"pair_ms": pair_ms[0], "pair_ms.champion": pair_ms[1]}
    if pair_ms[0] > gate.slower * pair_ms[1]:
        against.append(f"a pair takes {pair_ms[0]:.2f} ms, the champion {pair_ms[1]:.2f} ms")
    if against:
        return Decision(passed=False, why="; ".join(against), figures=figures)
    better = figures[f"tail.{QUALITY[0]}.difference"]
    return Decision(passed=True, why=f"tail {QUALITY[0]} {better:+.4f}, golden not worse", figures=figures)


def _figures(name: str, found: Estimate) -> dict[str, float]:
    named = {"difference": found.value, "lower": found.lower, "upper": found.upper}
    return {f"{name}.{each}": value for each, value in named.items() if value is not None}
