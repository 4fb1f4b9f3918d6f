"""How much better the served student is than the first, on queries that nothing of the loop has seen.

Both are run as they are served (same graphs, same precision) against the shop's truth. Differences are paired,
intervals are by resampling queries (`ops.evaluation.bootstrap`).
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from ops.evaluation.bootstrap import Estimate, difference, estimate, resampled_weights
from ops.evaluation.metrics import METRICS
from ops.evaluation.pairs import ScoredPairs, scored_pairs
from students.examples import LabelledPair
from students.version_folder import Precision, path_of

SHOWN = ("auc", "ndcg_at_10")
TAIL = "tail"
SEED = 11


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """A metric of the first and the last version on `queries` queries of a cut (all, tail), and last minus first."""

    cut: str
    metric: str
    queries: int
    first: Estimate
    last: Estimate
    difference: Estimate


def gains(first: ScoredPairs, last: ScoredPairs) -> list[Gain]:
    """Compare two scorers of the same pairs, over all of them and over tail queries where these are a part."""
    found = []
    theirs = last.cuts()
    for cut, ours in first.cuts().items():
        if cut not in ("all", TAIL) or (cut == TAIL and len(ours) == len(first)):
            continue
        weights = resampled_weights(np.random.default_rng(SEED), queries=ours.queries)
        for name in SHOWN:
            found.append(
                Gain(
                    cut=cut,
                    metric=name,
                    queries=ours.queries,
                    first=estimate(METRICS[name], ours, weights),
                    last=estimate(METRICS[name], theirs[cut], weights),
                    difference=difference(METRICS[name], theirs[cut], ours, weights),
                )
            )
    return found


def compare(versions: Path, first: int, last: int, unseen: Path, *, precision: Precision) -> list[Gain]:
    """Score the graded pairs of the file `unseen` by two exported versions and compare them.

    Raises VersionError, OSError or msgspec.DecodeError for a file that holds no graded pairs.
    """
    return gains(*(scored_version(versions, each, unseen, precision=precision) for each in (first, last)))


def scored_version(versions: Path, version: int, unseen: Path, *, precision: Precision) -> ScoredPairs:
    """Return the graded pairs of the file `unseen` under an exported version. Raises as `compare` does."""
    # Whoever only compares need not wait for onnxruntime.
    from students.export.onnx_student import OnnxStudent

    pairs = [msgspec.json.decode(line, type=LabelledPair) for line in unseen.read_bytes().splitlines()]
    # One thread: the cores may be busy, and a second would wait for them.
    student = OnnxStudent.open(path_of(versions, version), precision=precision, threads=1)
    manifest = student.manifest
    scores = student.scores([pair.query for pair in pairs], [pair.item_text for pair in pairs])
    return scored_pairs(
        gains=dict(zip(manifest.labels, manifest.gains, strict=True)),
        queries=[pair.query for pair in pairs],
        scores=scores.astype(np.float64),
        grades=[pair.grade for pair in pairs],
        strata=[pair.traffic_class for pair in pairs],
    )
