"""The commands on files: a student trained, evaluated, ablated, and what is told when files are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from ops.cli.context import CommandError, Context
from ops.cli.students.ablate import REPORT, ablate
from ops.cli.students.evaluate import evaluate
from ops.cli.students.tables import Report
from ops.cli.students.train import train
from ops.settings import SettingsError
from streams.records import Judgement
from students.evaluation.ablation import ARMS
from students.examples import LabelledPair
from students.training import run_folder
from students.training.run_folder import Finished
from tests.students.samples import examples, judgement, verdict, write_small_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def context(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """The command's context under settings for the smallest student."""
    given = {
        "ENCODER": encoder,
        "INTERACTION_LAYERS": 1,
        "REPRESENTATION_LAYERS": 1,
        "EPOCHS": 2,
        "BATCH_PAIRS": 8,
        "PRECISION": "fp32",
        "LEARNING_RATE": 1e-3,
        "FROZEN_EMBEDDINGS": "false",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"RELEVANCE_STUDENTS__{name}", str(value))
    monkeypatch.chdir(tmp_path)
    return Context(run_dir=tmp_path)


def run(command: click.Command, context: Context, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(each) for each in arguments], obj=context)


def write(path: Path, records: Sequence[object]) -> Path:
    path.write_bytes(msgspec.json.Encoder().encode_lines(records))
    return path


def judgements(queries: int) -> list[Judgement]:
    found = []
    for each in examples(queries):
        assert each.distribution is not None
        assert each.evidence is not None
        one, two = each.evidence
        found.append(
            judgement(
                each.query,
                each.item_text,
                grades=dict(zip("ESCI", each.distribution, strict=True)),
                verdicts=[verdict(one.verdict, (one.begin, one.end), (two.begin, two.end))],
                item_id=each.item_id,
            )
        )
    return found


def graded(queries: int) -> list[LabelledPair]:
    """Return pairs of queries that the judgements do not have."""
    classes = ("head", "torso", "tail")
    return [
        LabelledPair(
            query=f"{each.query} nova",
            item_id=each.item_id,
            item_text=each.item_text,
            grade=each.grade,
            traffic_class=classes[number // 3 % 3],
        )
        for number, each in enumerate(examples(queries))
    ]


def files(folder: Path) -> tuple[Path, Path, Path]:
    """Write judgements, graded pairs of other queries, and judgements of all but one of these."""
    known = graded(40)
    judged = [
        msgspec.structs.replace(each, query=pair.query)
        for each, pair in zip(judgements(40), known, strict=True)
    ]
    return (
        write(folder / "judgements.jsonl", judgements(10)),
        write(folder / "graded.jsonl", known),
        write(folder / "judged.jsonl", judged[1:]),
    )


@pytest.mark.parametrize("paradigm", ["interaction", "representation"])
def test_train_then_evaluate(context: Context, tmp_path: Path, paradigm: str) -> None:
    learned, known, judged = files(tmp_path)
    out = tmp_path / "run"
    told = run(train, context, "--examples", learned, "--watch", known, "--paradigm", paradigm, "--out", out)
    assert told.exit_code == 0, told.output
    assert "epoch 2: auc" in told.output
    made = msgspec.json.decode((out / run_folder.DONE).read_bytes(), type=Finished)
    assert (made.examples, made.steps, made.record.settings["epochs"]) == (30, 8, 2)
    student = out / run_folder.STUDENT
    told = run(
        evaluate,
        context,
        "--student",
        student,
        "--against",
        student,
        "--pairs",
        known,
        "--judged",
        judged,
        "--json",
    )
    report = msgspec.json.decode(told.output, type=Report)
    assert [row.name for row in report.figures] == ["teacher", "student", "other student"]
    teacher, ours = report.figures[:2]
    assert set(ours.cuts) == {"all", "head", "torso", "tail"}
    assert ours.cuts["all"].pairs == 119
    assert teacher.cuts["all"].figures["auc"].value == 1.0
    value, lower = ours.cuts["all"].figures["auc"].value, ours.cuts["all"].figures["auc"].lower
    assert value is not None
    assert lower is not None
    assert 0 <= lower <= value <= 1
    against = {row.against: row for row in report.differences}
    assert against["other student"].cuts["tail"].figures["auc"].value == 0
    shown = run(evaluate, context, "--student", student, "--pairs", known)
    assert "nDCG@10" in shown.output
    assert "accuracy E" in shown.output


def test_ablate_is_made_once_and_read_again(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned, known, judged = files(tmp_path)
    out = tmp_path / "ablation"
    arguments = ("--judgements", learned, "--pairs", known, "--judged", judged, "--seeds", 2, "--out", out)
    told = run(ablate, context, *arguments)
    assert told.exit_code == 0, told.output
    report = msgspec.json.decode((out / REPORT).read_bytes(), type=Report)
    names = [f"{paradigm} {arm}" for paradigm in ("interaction", "representation") for arm in ARMS]
    assert [row.name for row in report.figures] == ["teacher", *names]
    assert [row.runs for row in report.figures] == [1, *[2] * 8]
    assert {(row.name, row.against) for row in report.differences} >= {
        ("interaction both", "interaction hard"),
        ("representation chain", "representation hard"),
        ("representation both", "teacher"),
    }
    before = {path: path.stat().st_mtime_ns for path in out.glob("*-*.json")}
    assert len(before) == 16
    again = run(ablate, context, *arguments)
    assert "examples" not in again.output
    assert {path: path.stat().st_mtime_ns for path in out.glob("*-*.json")} == before
    (out / "interaction-both-2.json").unlink()
    run(ablate, context, *arguments)
    assert msgspec.json.decode((out / REPORT).read_bytes(), type=Report) == report
    monkeypatch.setenv("RELEVANCE_STUDENTS__EPOCHS", "3")
    other = run(ablate, context, *arguments)
    assert isinstance(other.exception, CommandError)
    assert "other examples, pairs or settings" in str(other.exception)


def test_streams_are_learned_apart(context: Context, tmp_path: Path) -> None:
    """Arms differ in what they learn, hence in their scores."""
    learned, known, _ = files(tmp_path)
    run(ablate, context, "--judgements", learned, "--pairs", known, "--seeds", 1, "--out", tmp_path / "out")
    for paradigm in ("interaction", "representation"):
        scores = [
            tuple(msgspec.json.decode((tmp_path / "out" / f"{paradigm}-{arm}-1.json").read_bytes())["scores"])
            for arm in ARMS
        ]
        assert len(set(scores)) == len(ARMS)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ("overlap", "both learned from and evaluated on"),
        ("no chain", "expected judgements with evidence, none of 12 examples has any"),
        ("unknown grade", "graded.jsonl:121: expected a grade among E, S, C, I, got 'Z'"),
    ],
)
def test_ablate_says_what_is_wrong(context: Context, tmp_path: Path, spoil: str, told: str) -> None:
    learned, known, _ = files(tmp_path)
    pairs = graded(40)
    if spoil == "overlap":
        write(known, [*pairs, msgspec.structs.replace(pairs[0], query="red kettle")])
    elif spoil == "no chain":
        write(learned, [msgspec.structs.replace(each, verdicts=[]) for each in judgements(4)])
    else:
        write(known, [*pairs, msgspec.structs.replace(pairs[0], grade="Z")])
    result = run(ablate, context, "--judgements", learned, "--pairs", known, "--out", tmp_path / "out")
    assert isinstance(result.exception, CommandError)
    assert told in str(result.exception)


def test_train_and_evaluate_say_what_is_wrong(context: Context, tmp_path: Path) -> None:
    learned, known, _ = files(tmp_path)
    empty = write(tmp_path / "empty.jsonl", [])
    result = run(train, context, "--examples", empty, "--out", tmp_path / "out")
    assert isinstance(result.exception, CommandError)
    assert "expected examples to learn from, got none" in str(result.exception)
    result = run(evaluate, context, "--student", tmp_path, "--pairs", known)
    assert isinstance(result.exception, CommandError)
    assert "expected a student" in str(result.exception)
    result = run(evaluate, context, "--student", tmp_path)
    assert result.exit_code == 2
    assert "--pairs or --set" in result.output
    result = run(train, context, "--examples", learned, "--out", tmp_path / "more", "--start", tmp_path)
    assert isinstance(result.exception, CommandError)
    seen = write(tmp_path / "seen.jsonl", [msgspec.structs.replace(graded(1)[0], query="red kettle")])
    result = run(train, context, "--examples", learned, "--watch", seen, "--out", tmp_path / "watched")
    assert isinstance(result.exception, CommandError)
    assert "both learned from and evaluated on" in str(result.exception)


def test_settings_that_leave_an_item_no_room_are_refused(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELEVANCE_STUDENTS__MAX_TOKENS", "30")
    with pytest.raises(SettingsError, match="at least 8 tokens"):
        context.settings()
