from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from ops.cli.context import Context
from ops.cli.main import EXPECTED
from ops.cli.teacher import judge as command
from ops.clickhouse import publishing
from ops.settings import Settings
from streams.item_text import content_hash
from streams.records import Judgement, SubtaskVerdict
from teacher import judging
from teacher.cache import Identity
from teacher.parsing import Refusal, RefusalReason
from teacher.probe import ProbeError
from teacher.serving import address

HOSTILE = "red\x1b[31m \u202e mug"


class FakeJudge:
    """Judges everything alike, and refuses what is called `refused`."""

    def __init__(self) -> None:
        self.settings: list[Settings] = []
        self.asked: list[Any] = []
        self.judged_ms = 9_999_999_999_999

    @asynccontextmanager
    async def open(self, settings: Settings) -> AsyncIterator[FakeJudge]:
        self.settings.append(settings)
        yield self

    def identity(self, query: str, item_id: str, item_text: str) -> Identity:
        return Identity(
            query=query,
            item_id=item_id,
            content_hash=content_hash(item_text),
            teacher_id="t@1",
            prompt_hash="abc",
        )

    async def judge_all(
        self, pairs: Sequence[Any], *, on_result: Callable[[int, judging.Result], None] | None
    ) -> list[judging.Result]:
        results = []
        for place, pair in enumerate(pairs):
            self.asked.append(pair)
            result: judging.Result = self.judgement(pair)
            if pair.query == "refused":
                result = Refusal(reason=RefusalReason.TRUNCATED, detail=f"cut: {HOSTILE}", prompt_tokens=7)
            if on_result:
                on_result(place, result)
            results.append(result)
        return results

    def judgement(self, pair: Any) -> Judgement:
        verdict = SubtaskVerdict(
            subtask="colour",
            verdict="mismatch",
            query_words="red",
            item_words=HOSTILE,
            query_span=(0, 3),
            item_span=None,
        )
        name = self.identity(pair.query, pair.item_id, pair.item_text)
        return Judgement(
            query=pair.query,
            item_id=pair.item_id,
            item_text=pair.item_text,
            content_hash=name.content_hash,
            teacher_id=name.teacher_id,
            prompt_hash=name.prompt_hash,
            grades={"E": 0.75, "I": 0.25},
            grade="E",
            relevance_score=0.75,
            verdicts=[verdict],
            unlocated=1,
            chain_of_thought=f"red | colour | {HOSTILE} | mismatch\ngrade: E",
            latency_ms=812.4,
            prompt_tokens=480,
            cached_tokens=416,
            completion_tokens=21,
            judged_ms=self.judged_ms,
        )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeJudge:
    found = FakeJudge()
    monkeypatch.setattr(command, "open_judge", found.open)
    return found


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    address.write(tmp_path, address.TeacherAddress("http://127.0.0.1:18000/v1", 7))
    return tmp_path


def invoke(run_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command.judge, arguments, obj=Context(run_dir=run_dir))


def test_a_judgement_is_shown_whole_and_safely(run_dir: Path, fake: FakeJudge) -> None:
    answer = invoke(
        run_dir,
        "red mug",
        "Blue mug",
        "--brand",
        "Nova",
        "--category",
        "Home/Mugs",
        "--attribute",
        "colour=blue",
    )
    assert answer.exit_code == 0, answer.output
    asked = fake.asked[0]
    assert asked.item_text == "Blue mug\nbrand: Nova\ncategory: Home / Mugs\ncolour: blue"
    assert fake.settings[0].teacher_url == "http://127.0.0.1:18000/v1"
    assert "E 0.750  I 0.250" in answer.output
    assert "score    0.750" in answer.output
    assert "480 prompt tokens (416 of them cached), 21 written, 812 ms" in answer.output
    assert "\\x1b[31m \\u202e mug (not there)" in answer.output
    assert "\x1b" not in answer.output
    assert "\u202e" not in answer.output
    assert "kept" not in answer.output


def test_one_judged_before_says_so(run_dir: Path, fake: FakeJudge) -> None:
    fake.judged_ms = 1_700_000_000_000
    assert "judged on 2023-11-14 22:13 UTC" in invoke(run_dir, "red mug", "Blue mug").output


def test_json_is_ascii_and_whole(run_dir: Path, fake: FakeJudge) -> None:
    answer = invoke(run_dir, "red mug", "Blue mug", "--json")
    assert answer.output.isascii()
    assert "\x1b" not in answer.output
    found = msgspec.convert(json.loads(answer.output), Judgement)
    assert found == fake.judgement(fake.asked[0])


def test_the_mode_reaches_the_judge(run_dir: Path, fake: FakeJudge) -> None:
    assert invoke(run_dir, "red mug", "Blue mug", "--mode", "score").exit_code == 0
    assert fake.settings[0].teacher.mode == "score"


def test_a_refusal_is_an_error_with_its_reason(run_dir: Path, fake: FakeJudge) -> None:
    answer = invoke(run_dir, "refused", "Blue mug")
    assert isinstance(answer.exception, EXPECTED)
    assert str(answer.exception).startswith("no judgement, truncated: cut:")


def test_without_a_server_it_says_how_to_start_one(tmp_path: Path, fake: FakeJudge) -> None:
    answer = invoke(tmp_path, "red mug", "Blue mug")
    assert isinstance(answer.exception, EXPECTED)
    assert "relevance teacher serve" in str(answer.exception)
    assert fake.asked == []


def test_what_the_probe_misses_is_told(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def unfit(settings: Settings) -> AsyncIterator[FakeJudge]:
        if settings.teacher_url:
            raise ProbeError(["no log-probabilities"])
        yield FakeJudge()

    monkeypatch.setattr(command, "open_judge", unfit)
    answer = invoke(run_dir, "red mug", "Blue mug")
    assert isinstance(answer.exception, EXPECTED)
    assert "no log-probabilities" in str(answer.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("red mug",),
        ("red mug", "Blue mug", "--out", "x"),
        ("--file", __file__),
        ("red mug", "--file", __file__, "--out", "x"),
        ("red mug", "Blue mug", "--attribute", "colour"),
        ("red mug", "Blue mug", "--attribute", "smell=good"),
    ],
)
def test_wrong_usage_is_refused(run_dir: Path, fake: FakeJudge, arguments: tuple[str, ...]) -> None:
    assert invoke(run_dir, *arguments).exit_code == 2
    assert fake.asked == []


def pairs_file(folder: Path, *queries: str) -> Path:
    path = folder / "pairs.jsonl"
    lines = [
        json.dumps({"query": query, "item_id": str(number), "item_text": "Mug", "grade": "E"})
        for number, query in enumerate(queries)
    ]
    path.write_text("\n".join(lines) + "\n\n")
    return path


def test_a_file_of_pairs_becomes_a_file_of_judgements(run_dir: Path, fake: FakeJudge) -> None:
    out = run_dir / "folder" / "judgements.jsonl"
    answer = invoke(run_dir, "--file", str(pairs_file(run_dir, "a", "b")), "--out", str(out))
    assert answer.exit_code == 0, answer.output
    assert "judged 2 of 2 pairs" in answer.output
    assert "960 prompt tokens (832 cached), 42 written" in answer.output
    found = msgspec.json.Decoder(Judgement).decode_lines(out.read_bytes())
    assert [judgement.query for judgement in found] == ["a", "b"]


def test_refused_pairs_are_counted_by_reason(run_dir: Path, fake: FakeJudge) -> None:
    out = run_dir / "judgements.jsonl"
    answer = invoke(run_dir, "--file", str(pairs_file(run_dir, "a", "refused")), "--out", str(out))
    assert "judged 1 of 2 pairs" in answer.output
    assert isinstance(answer.exception, EXPECTED)
    assert "1 pairs have no judgement: truncated 1" in str(answer.exception)
    assert len(out.read_bytes().splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"{}", b'{"query": "a"}', b"\xff", b'{"query": 1, "item_id": "x"}'])
def test_a_bad_file_is_named_with_its_line(run_dir: Path, fake: FakeJudge, content: bytes) -> None:
    path = run_dir / "pairs.jsonl"
    path.write_bytes(content)
    answer = invoke(run_dir, "--file", str(path), "--out", str(run_dir / "out"))
    assert isinstance(answer.exception, EXPECTED)
    assert str(path) in str(answer.exception)
    assert fake.asked == []


def test_results_are_published_when_asked_for(
    run_dir: Path, fake: FakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, list[dict[str, Any]]]] = []

    @contextmanager
    def connected(settings: Settings) -> Iterator[str]:
        yield "client"

    monkeypatch.setattr(publishing, "connected", connected)
    monkeypatch.setattr(publishing, "publish", lambda client, table, rows: sent.append((table, list(rows))))
    file, out = pairs_file(run_dir, "a", "refused"), run_dir / "out.jsonl"
    invoke(run_dir, "--file", str(file), "--out", str(out))
    assert sent == []
    invoke(run_dir, "--file", str(file), "--out", str(out), "--publish")
    assert [(table, [row["query"] for row in rows]) for table, rows in sent] == [
        ("judgements", ["a"]),
        ("teacher_refusals", ["refused"]),
    ]
    assert sent[1][1][0]["reason"] == "truncated"
