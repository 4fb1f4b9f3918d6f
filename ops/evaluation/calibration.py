"""Isotonic calibration: a rising function from a scorer's score to the gain that people's grades give.

It is fitted with scikit-learn, kept as the function's knots, and applied without it. Scores keep their order,
though some become equal.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from ops.evaluation.metrics import UndefinedError
from ops.evaluation.pairs import Floats, ScoredPairs
from ops.files import write_atomically

FOLDS = 5


class CalibrationError(ValueError):
    """A calibration cannot be read. The message says what was expected."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Knots of the function, straight in between and level outside: `scores` rise, `gains` never fall.

    `scorer` names whose scores it corrects; no other's are. `pairs` and `queries` count what it was fitted on.
    """

    scorer: str
    scores: tuple[float, ...]
    gains: tuple[float, ...]
    pairs: int
    queries: int

    def __post_init__(self) -> None:
        """Raise CalibrationError for knots that are no such function on [0, 1]."""
        if not self.scores or len(self.scores) != len(self.gains):
            raise CalibrationError(
                f"expected as many gains as scores, got {len(self.gains)} and {len(self.scores)}"
            )
        knots = np.array([self.scores, self.gains])
        rising = (np.diff(knots[0]) > 0).all() and (np.diff(knots[1]) >= 0).all()
        if not (rising and np.isfinite(knots).all() and knots.min() >= 0 and knots.max() <= 1):
            raise CalibrationError("expected rising scores and gains that never fall, all of them in [0, 1]")

    def apply(self, score: Floats) -> Floats:
        """Return the calibrated scores, of the same shape."""
        found: Floats = np.interp(score, self.scores, self.gains)
        return found


def fit(pairs: ScoredPairs, *, scorer: str) -> Calibration:
    """Return the calibration that is nearest to the pairs' gains by squares. Raises UndefinedError for no pairs."""
    if not len(pairs):
        raise UndefinedError("there are no pairs to calibrate on")
    # Takes a second to import, which a page that only applies a calibration need not wait for.
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(pairs.score, pairs.gain)
    # Rounding in the means may leave a knot a hair above 1.
    gains = np.clip(np.maximum.accumulate(model.y_thresholds_), 0, 1)
    return Calibration(
        scorer=scorer,
        scores=tuple(model.X_thresholds_.tolist()),
        gains=tuple(gains.tolist()),
        pairs=len(pairs),
        queries=pairs.queries,
    )


def cross_fitted(pairs: ScoredPairs, rng: np.random.Generator, *, folds: int = FOLDS) -> ScoredPairs:
    """Return the pairs under calibrated scores, each query's by the grades of the other folds' queries alone.

    Raises UndefinedError for fewer queries than folds.
    """
    if pairs.queries < folds:
        raise UndefinedError(f"{pairs.queries} queries cannot be parted into {folds} folds")
    fold = rng.permutation(np.arange(pairs.queries) % folds)[pairs.query]
    score = np.empty(len(pairs))
    for number in range(folds):
        held_out = fold == number
        score[held_out] = fit(pairs.select(~held_out), scorer="").apply(pairs.score[held_out])
    return pairs.with_scores(score)


def save(path: Path, calibration: Calibration) -> None:
    """Write a calibration as JSON, whole or not at all."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(calibration)) + b"\n")


def read(path: Path) -> Calibration:
    """Read a calibration. Raises CalibrationError for a file that is missing or holds something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Calibration)
    except (OSError, msgspec.DecodeError) as error:
        raise CalibrationError(f"{path}: expected a calibration as JSON: {error}") from error
