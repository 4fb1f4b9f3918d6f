"""The draw, the traffic and the curve of the bench that sets the sampler beside a lot."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from ops.bench import sampling_labels, student_answers
from ops.bench.sampling_labels import drawn, labels_for, shown, windows_of
from ops.shop.judged_pairs import JudgedPair
from streams.sampling import Candidate, Shape, candidates
from tests.ops.bench.test_student_benches import answers
from tests.students.samples import write_small_encoder

SHAPE = Shape(tail_exponent=0.5, coec_prior=1.0, floor=0.05)


def _candidate(query: str, item_id: str, uncertainty: float) -> Candidate:
    return Candidate(
        query=query, item_id=item_id, tail=1.0, uncertainty=uncertainty, contradiction=1.0, seen_ms=1
    )


def _pair(query: str, item_id: str, grade: str) -> JudgedPair:
    return JudgedPair(
        query=query, item_id=item_id, item_text=item_id, grade=grade, traffic_class="", source="shop"
    )


def test_the_best_at_its_turn_is_drawn_as_novelty_wears_off() -> None:
    given = [_candidate("a", str(n), 0.9) for n in range(3)] + [_candidate("b", "9", 0.7)]
    asked: dict[str, int] = {}
    found = drawn(given, 3, asked=asked, uniform_share=0.0, rng=random.Random(1))
    # 0.9, then 0.7 before 0.9 / sqrt(2), then 0.9 / sqrt(2).
    assert [each.query for each in found] == ["a", "b", "a"]
    assert asked == {"a": 2, "b": 1}
    assert [each.query for each in drawn(given, 9, asked=asked, uniform_share=0.0, rng=random.Random(1))] == [
        *"abaa"
    ]


def test_a_share_is_drawn_by_lot_and_nothing_comes_twice() -> None:
    given = [_candidate(f"q{n}", str(n), 0.1 + 0.9 * (n < 10)) for n in range(200)]
    found = drawn(given, 20, asked={}, uniform_share=0.5, rng=random.Random(3))
    assert len({each.pair for each in found}) == 20
    assert sum(each.uncertainty < 0.5 for each in found) >= 5
    best = drawn(given, 10, asked={}, uniform_share=0.0, rng=random.Random(3))
    assert all(each.uncertainty == 1.0 for each in best)


def test_windows_hold_what_was_shown_but_for_what_was_sent() -> None:
    pool = [_pair("head", "1", "E"), _pair("head", "2", "I"), _pair("tail", "3", "E")]
    seen = shown(pool, {"head": 400, "tail": 1}, seed=1)
    assert seen.impressions == [50, 50, 1]
    assert seen.clicks[0] > seen.clicks[1]
    windows = windows_of(pool, seen, [0.5, 0.9, 0.5], without={1})
    assert [(each.query, each.searches, [item.item_id for item in each.items]) for each in windows] == [
        ("head", 400, ["1"]),
        ("tail", 1, ["3"]),
    ]
    by_query = {each.query: each for window in windows for each in candidates(window, SHAPE)}
    assert by_query["tail"].tail == 1.0
    assert by_query["head"].tail == pytest.approx(0.05)


def test_a_curve_that_falls_short_needs_no_number() -> None:
    assert labels_for(0.9, [100, 200], [0.8, 0.85]) is None
    assert labels_for(0.7, [100, 200], [0.8, 0.85]) == 100.0


def test_all_curves_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = write_small_encoder(tmp_path / "encoder")
    student_answers.write(tmp_path / "answers" / "shop" / student_answers.TRAIN, answers(20))
    student_answers.write(tmp_path / "answers" / "shop" / student_answers.EVAL, answers(4, suffix=" nova"))
    for name, value in {"ENCODER": str(encoder), "INTERACTION_LAYERS": "1", "PRECISION": "fp32"}.items():
        monkeypatch.setenv(f"RELEVANCE_STUDENTS__{name}", value)
    arguments = ["--answers", str(tmp_path / "answers"), "--sizes", "8,24", "--start", "12"]
    arguments += ["--eval-queries", "45", "--eval-per-query", "4", "--seeds", "1"]
    told = CliRunner().invoke(sampling_labels.main, arguments)
    assert told.exit_code == 0, told.output
    assert "seed 1, sampler, 24: 24 pairs of" in told.output
    assert "seed 1, by lot, 24: 24 pairs of" in told.output
    assert "seed 1, by impression, 24: 24 pairs of" in told.output
    for line in (
        "AUC, all (",
        "AUC, tail (15 queries, 1 seeds)",
        "    24 labels  sampler ",
        "sampler - by impression: ",
    ):
        assert line in told.output
