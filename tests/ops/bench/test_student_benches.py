"""The students' benches on files and settings as small as they come."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from ops.bench import student_ablation, student_answers, student_learning_curve, student_scoring
from ops.bench.student_answers import SCALE, by_people, judged, pairs_to_learn_from
from ops.bench.student_learning_curve import at_least, rows_of
from ops.bench.student_speed import ours, plain
from ops.bench.teacher_quality import Answer
from ops.settings import Students as Settings
from ops.shop.judged_pairs import JudgedPair
from students import saved
from students.saved import Paradigm
from teacher.parsing import Refusal, RefusalReason
from tests.integration.triton_server import small_student
from tests.ops.cli.students.test_commands import judgements
from tests.students.samples import examples, write_small_encoder
from tests.students.tiny import tiny_settings


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_encoder(tmp_path_factory.mktemp("encoder"))


def answers(queries: int, *, suffix: str = "") -> list[Answer]:
    """Return answers, the last one a refusal."""
    found = []
    for number, (each, made) in enumerate(zip(examples(queries), judgements(queries), strict=True)):
        query = each.query + suffix
        pair = JudgedPair(
            query=query,
            item_id=each.item_id,
            item_text=each.item_text,
            grade=each.grade,
            traffic_class="tail" if suffix and number % 2 else "",
            source="shop",
        )
        found.append(Answer(pair=pair, judgement=msgspec.structs.replace(made, query=query)))
    refusal = Refusal(reason=RefusalReason.NO_GRADE, detail="")
    return [*found[:-1], Answer(pair=found[-1].pair, refusal=refusal)]


@pytest.fixture
def folder(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of answers, under settings for the smallest student."""
    student_answers.write(tmp_path / "answers" / "shop" / student_answers.TRAIN, answers(10))
    student_answers.write(tmp_path / "answers" / "shop" / student_answers.EVAL, answers(30, suffix=" nova"))
    for name, value in {
        "ENCODER": str(encoder),
        "INTERACTION_LAYERS": "1",
        "REPRESENTATION_LAYERS": "1",
        "EPOCHS": "1",
        "BATCH_PAIRS": "8",
        "PRECISION": "fp32",
    }.items():
        monkeypatch.setenv(f"RELEVANCE_STUDENTS__{name}", value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_ablation_prints_every_row(folder: Path) -> None:
    arguments = ["--answers", "answers", "--out", "out", "--set", "shop", "--seeds", "1"]
    told = CliRunner().invoke(student_ablation.main, arguments)
    assert told.exit_code == 0, told.output
    assert "learned from 29 judgements of 10 queries, evaluated on 89 pairs of 30 others" in told.output
    for row in ("teacher", "interaction hard", "interaction both", "representation chain"):
        assert f"\n{row} " in told.output
    assert "interaction both - interaction hard" in told.output
    assert told.output.count("of the teacher's AUC") == 8


def test_the_learning_curve_prints_every_row(folder: Path) -> None:
    arguments = ["--answers", "answers", "--out", "out", "--set", "shop", "--seeds", "1"]
    arguments += ["--sizes", "12,9000", "--labels", "6", "--steps", "2"]
    told = CliRunner().invoke(student_learning_curve.main, arguments)
    assert told.exit_code == 0, told.output
    for row in ("people 6", "teacher 12", "teacher 30", "people 6 teacher 30"):
        assert f"\n{row} " in told.output
    assert "teacher 30 - people 6" in told.output


@pytest.mark.parametrize("paradigm", ["interaction", "representation"])
def test_every_way_to_score_is_measured(folder: Path, encoder: Path, paradigm: Paradigm) -> None:
    saved.save(small_student(encoder, paradigm, seed=1), folder / "student")
    arguments = [
        "--student",
        "student",
        "--answers",
        "answers",
        "--pairs",
        "20",
        "--page",
        "4",
        "--calls",
        "3",
    ]
    told = CliRunner().invoke(student_scoring.main, arguments)
    assert told.exit_code == 0, told.output
    assert "90 pairs of 30 unseen queries" in told.output
    for way in ("torch fp32", "torch bf16", "ONNX fp32", "ONNX fp16", "ONNX int8"):
        assert f"\n{way} " in told.output
    assert "ONNX int8 - torch fp32" in told.output
    line = next(
        line for line in told.output.splitlines() if line.startswith("ONNX int8 ") and " all " in line
    )
    # Its accuracy, the last column, would be torch's.
    assert line.split()[-1] == "-"


def test_the_ways_take_turns_and_the_first_call_does_not_count() -> None:
    asked: list[str] = []

    def way(name: str) -> student_scoring.Score:
        def score(pairs: student_scoring.Pairs) -> np.ndarray:
            asked.append(f"{name}{len(pairs)}")
            return np.zeros(len(pairs), np.float32)

        return score

    took = student_scoring.in_turn({"a": way("a"), "b": way("b")}, [[("q", "i")], [("q", "i")] * 2])
    assert asked == ["a1", "b1", "a1", "b1", "a2", "b2"]
    assert [len(took[name]) for name in "ab"] == [2, 2]
    assert student_scoring.pairs_per_s([0.5, 2.0, 1.0], 10) == 10


def test_a_persons_grade_holds_over_the_teachers() -> None:
    given = answers(4)
    first = given[0]
    given[0] = msgspec.structs.replace(first, pair=msgspec.structs.replace(first.pair, grade="C"))
    rows = rows_of(given, labels=2, sizes=[8])
    assert [each.grade for each in rows["people 2"]][:1] == ["C"]
    both = rows["people 2 teacher 8"]
    assert len(both) == 8
    assert both[0].grade == "C"
    assert both[0].distribution == rows["teacher 8"][0].distribution


def test_small_sets_are_seen_more_often() -> None:
    settings = Settings(batch_pairs=32, epochs=2)
    assert at_least(settings, 100, 320).epochs == 10
    assert at_least(settings, 100, 32_000).epochs == 2


def test_refusals_are_not_learned_but_their_pairs_have_grades() -> None:
    given = answers(4)
    assert (len(judged(given)), len(by_people(given))) == (11, 12)


def test_pairs_to_learn_from_are_nested_and_of_other_queries() -> None:
    few = pairs_to_learn_from("shop", Path(), count=20, per_query=4, unseen=())
    queries = {pair.query for pair in few}
    more = pairs_to_learn_from("shop", Path(), count=40, per_query=4, unseen=())
    assert more[:20] == few
    other = pairs_to_learn_from("shop", Path(), count=20, per_query=4, unseen=queries)
    assert len(other) == 20
    assert not queries & {pair.query for pair in other}
    assert {pair.grade for pair in more} <= set(SCALE.labels)


def test_a_few_real_pairs_are_of_all_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [
        JudgedPair(
            query=f"q{number % 7}",
            item_id=str(number),
            item_text=str(number),
            grade="E",
            traffic_class="",
            source="esci",
        )
        # Of the last queries there are fewer.
        for number in range(40)
    ]
    monkeypatch.setattr(student_answers, "real_pairs", lambda *_, **__: pairs)
    few = pairs_to_learn_from("esci", Path(), count=7, per_query=40, unseen=())
    assert len({pair.query for pair in few}) == 7
    every = pairs_to_learn_from("esci", Path(), count=90, per_query=40, unseen={"q3"})
    assert {pair.item_id for pair in every} == {pair.item_id for pair in pairs if pair.query != "q3"}
    assert len(every) == 34


def test_speed_is_measured_of_the_same_layers(encoder: Path) -> None:
    settings = tiny_settings(encoder, interaction_layers=1)
    for made in (ours(examples(2), settings, "interaction"), plain(examples(2), settings, "interaction")):
        assert made.pairs_per_s > 0
        assert made.peak_mb > 50
