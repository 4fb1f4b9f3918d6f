"""The report of judgements in a file, and of an endpoint's."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result

from ops.cli.context import CommandError, Context
from ops.cli.teacher.evaluate import evaluate, read_judgements
from ops.evaluation import calibration
from teacher.examples import save
from teacher.watching import ReportError, TeacherReport
from tests.teacher.endpoint import Endpoint, serving
from tests.teacher.test_watching import graded, judgements


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """An endpoint in a thread of its own: the command has its own event loop."""
    endpoint, started, stop = Endpoint(), threading.Event(), threading.Event()

    async def serve() -> None:
        async with serving(endpoint):
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(20)
    yield endpoint
    stop.set()
    thread.join(20)


def run(tmp_path: Path, *arguments: str) -> Result:
    context = Context(run_dir=tmp_path)
    return CliRunner().invoke(evaluate, list(arguments), obj=context)


def files(tmp_path: Path, *, given: str, known: str) -> tuple[str, str]:
    """Write judgements of the grades `given` and people's grades `known`."""
    judged = judgements(given)
    judgements_file, people = tmp_path / "judged.jsonl", tmp_path / "people.jsonl"
    judgements_file.write_bytes(msgspec.json.Encoder().encode_lines(judged))
    save(people, graded(judged, known))
    return str(judgements_file), str(people)


def test_report_as_json(tmp_path: Path) -> None:
    judged, people = files(tmp_path, given="ESIE" * 12, known="ESIS" * 12)
    result = run(tmp_path, "--file", judged, "--people", people, "--json")
    made = msgspec.json.decode(result.output, type=TeacherReport)
    assert made.judgements == 48
    assert made.figures["accuracy"].value == 0.75
    lower, upper = made.figures["accuracy"].lower, made.figures["accuracy"].upper
    assert lower == upper == 0.75, "every query is alike"
    assert run(tmp_path, "--file", judged, "--people", people, "--json").output == result.output


def test_report_as_text(tmp_path: Path) -> None:
    judged, people = files(tmp_path, given="ESIE" * 12, known="ESIS" * 12)
    result = run(tmp_path, "--file", judged, "--people", people, "--before", judged)
    assert result.exception is None
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "t@1 abc 48 judgements, 0 refused" in lines
    assert "accuracy 0.75 0.75 to 0.75" in lines
    assert "accuracy_C - no pair has grade C" in lines
    assert any(line.startswith("unknown 48 judgements in one period") for line in lines)


def test_calibration_is_fitted_on_people_s_grades(tmp_path: Path) -> None:
    judged, people = files(tmp_path, given="ESIE" * 12, known="ESIS" * 12)
    out = tmp_path / "calibration.json"
    assert run(tmp_path, "--file", judged, "--people", people, "--save-calibration", str(out)).exit_code == 0
    fitted = calibration.read(out)
    assert (fitted.scorer, fitted.pairs, fitted.queries) == ("t@1 abc", 48, 12)
    assert fitted.apply(np.array([0.1, 0.4, 0.9])) == pytest.approx([0, 0.1, 0.55])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --people, --file, or both"),
        (["--file", "JUDGED", "--save-calibration", "x.json"], "--save-calibration needs --people"),
        (["--file", "missing.jsonl"], "does not exist"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: list[str], message: str) -> None:
    judged, _ = files(tmp_path, given="E", known="E")
    result = run(tmp_path, *(judged if each == "JUDGED" else each for each in arguments))
    assert result.exit_code == 2
    assert message in result.output


def test_a_file_of_something_else_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "judged.jsonl"
    path.write_bytes(msgspec.json.encode(judgements("E")[0]) + b'\n{"query": "mug"}\n')
    with pytest.raises(ReportError, match=r"judged\.jsonl:2: expected a judgement as JSON"):
        read_judgements(path)
    result = run(tmp_path, "--file", str(path))
    assert isinstance(result.exception, CommandError)


def test_publishing_without_a_stack_says_so(tmp_path: Path) -> None:
    judged, _ = files(tmp_path, given="ESIE" * 12, known="ESIS" * 12)
    result = run(tmp_path, "--file", judged, "--publish")
    assert result.exception is not None
    assert "relevance up" in str(result.exception)


def test_the_endpoint_is_asked_for_people_s_pairs(
    tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, people = files(tmp_path, given="ESIE" * 3, known="ESIS" * 3)
    monkeypatch.setenv("RELEVANCE_TEACHER_URL", endpoint.url)
    result = run(tmp_path, "--people", people, "--json")
    assert result.exception is None
    made = msgspec.json.decode(result.stdout, type=TeacherReport)
    assert made.grades == {"E": 0, "S": 12, "C": 0, "I": 0}
    assert made.figures["accuracy"].value == 0.5
    assert made.figures["prompt_tokens_p50"].value == 400
    assert made.figures["cached_prompt_share"].value == 0.8


def test_an_endpoint_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, people = files(tmp_path, given="E", known="E")
    monkeypatch.setenv("RELEVANCE_TEACHER_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("RELEVANCE_TEACHER__RETRIES", "0")
    result = run(tmp_path, "--people", people)
    assert isinstance(result.exception, CommandError)
    assert "127.0.0.1:9" in str(result.exception)
