from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from ops.evaluation import calibration
from ops.evaluation.calibration import Calibration, CalibrationError, cross_fitted, fit
from ops.evaluation.metrics import UndefinedError, auc, ece
from ops.evaluation.pairs import ScoredPairs, scored_pairs
from tests.ops.evaluation.test_metrics import graded_pairs, value

YES_NO = {"Yes": 1.0, "No": 0.0}


def too_bold(seed: int, *, queries: int = 300, per_query: int = 10) -> ScoredPairs:
    """Make pairs that are relevant with probability score squared."""
    rng = np.random.default_rng(seed)
    score = rng.uniform(size=queries * per_query)
    relevant = rng.uniform(size=len(score)) < score**2
    return scored_pairs(
        gains=YES_NO,
        queries=np.repeat(np.arange(queries), per_query).tolist(),
        scores=score,
        grades=["Yes" if each else "No" for each in relevant],
    )


def test_pooling_by_hand() -> None:
    # Gains 0 1 0 1 by rising score: the middle two break the order and share their mean.
    pairs = scored_pairs(
        gains=YES_NO, queries="abcd", scores=[0.1, 0.2, 0.4, 0.8], grades=["No", "Yes", "No", "Yes"]
    )
    fitted = fit(pairs, scorer="t")
    assert fitted.apply(np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0])).tolist() == pytest.approx(
        [0, 0, 0.5, 0.5, 0.5, 0.75, 1, 1]
    )
    assert (fitted.pairs, fitted.queries, fitted.scorer) == (4, 4, "t")


@given(graded_pairs(), st.lists(st.floats(0, 1), min_size=1))
def test_knots_say_what_scikit_learn_says(pairs: ScoredPairs, scores: list[float]) -> None:
    model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(pairs.score, pairs.gain)
    found = fit(pairs, scorer="t").apply(np.array(scores))
    assert found == pytest.approx(model.predict(scores), abs=1e-9)


def test_correction_is_right_for_other_queries() -> None:
    fitted_on, tried_on = too_bold(1), too_bold(2)
    corrected = tried_on.with_scores(fit(fitted_on, scorer="t").apply(tried_on.score))
    assert value(ece, tried_on) == pytest.approx(1 / 2 - 1 / 3, abs=0.03)
    assert value(ece, corrected) < 0.04
    assert value(auc, corrected) == pytest.approx(value(auc, tried_on), abs=0.005)


def test_cross_fitting_uses_no_grade_of_the_query_itself() -> None:
    # Grades that have nothing to do with the score: fitted on themselves they would seem to.
    rng = np.random.default_rng(3)
    pairs = scored_pairs(
        gains=YES_NO,
        queries=range(200),
        scores=rng.uniform(size=200),
        grades=["Yes" if each else "No" for each in rng.uniform(size=200) < 0.5],
    )
    flipped = pairs.select(np.ones(200, dtype=np.bool_))
    flipped.grade[0] = 1 - flipped.grade[0]
    ours, theirs = (cross_fitted(each, np.random.default_rng(1)) for each in (pairs, flipped))
    assert ours.score[0] == theirs.score[0]
    assert (ours.score != theirs.score).any()


def test_cross_fitted_calibration_error_is_small() -> None:
    pairs = too_bold(4)
    assert value(ece, cross_fitted(pairs, np.random.default_rng(1))) < 0.04


def test_too_few_queries_to_cross_fit() -> None:
    with pytest.raises(UndefinedError, match="4 queries cannot be parted into 5 folds"):
        cross_fitted(too_bold(1, queries=4), np.random.default_rng(1))


def test_nothing_to_fit_on() -> None:
    with pytest.raises(UndefinedError, match="no pairs"):
        fit(scored_pairs(gains=YES_NO, queries=[], scores=[], grades=[]), scorer="t")


def test_a_saved_calibration_is_the_same_when_read(tmp_path: Path) -> None:
    fitted = fit(too_bold(1, queries=40), scorer="teacher 1a2b")
    calibration.save(tmp_path / "calibration.json", fitted)
    assert calibration.read(tmp_path / "calibration.json") == fitted


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "expected a calibration as JSON"),
        (
            '{"scorer": "t", "scores": [0.1], "gains": [], "pairs": 1, "queries": 1}',
            "as many gains as scores",
        ),
        ('{"scorer": "t", "scores": [], "gains": [], "pairs": 1, "queries": 1}', "as many gains as scores"),
        ('{"scorer": "t", "scores": [0.2, 0.1], "gains": [0, 1], "pairs": 1, "queries": 1}', "rising scores"),
        ('{"scorer": "t", "scores": [0.1, 0.2], "gains": [1, 0], "pairs": 1, "queries": 1}', "never fall"),
        ('{"scorer": "t", "scores": [0.1, 0.2], "gains": [0, 7], "pairs": 1, "queries": 1}', r"in \[0, 1\]"),
    ],
)
def test_a_file_with_something_else_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(content)
    with pytest.raises(CalibrationError, match=message):
        calibration.read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"nothing\.json"):
        calibration.read(tmp_path / "nothing.json")


def test_a_single_knot_is_a_constant() -> None:
    knot = Calibration(scorer="t", scores=(0.5,), gains=(0.25,), pairs=1, queries=1)
    assert knot.apply(np.array([0.0, 0.5, 1.0])).tolist() == [0.25, 0.25, 0.25]
