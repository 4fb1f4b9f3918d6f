"""Asking: what is recorded, what is tried again, when it stops. The judge is a stand-in that follows a script."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from teacher.annotation import run
from teacher.annotation.ledger import Author, Key, Ledger
from teacher.annotation.pairs import PairToAnnotate
from teacher.annotation.review import Review
from teacher.annotation.rule import Rule, WhenPersonDisagrees
from teacher.annotation.settlement import Plan
from teacher.judging import Judge, Result
from teacher.parsing import Refusal, RefusalReason
from tests.teacher.annotation.samples import LABELS, judgement, pair

AUTHORS = {name: Author(model=name, prompt_hash="h") for name in "abc"}
AWAY = Refusal(reason=RefusalReason.UNAVAILABLE, detail="no connection")
BAD = Refusal(reason=RefusalReason.BAD_RESPONSE, detail="abort")
PLAN = Plan(
    annotators=("a", "b"),
    arbiter="c",
    samples=2,
    rule=Rule(self_agreement=0.6, when_person_disagrees=WhenPersonDisagrees.REVIEW),
    labels=LABELS,
)


class Scripted:
    """Answers by the item's id and how often it was asked before."""

    def __init__(self, script: Callable[[str, int], Result]) -> None:
        self.asked: Counter[str] = Counter()
        self.seeds: set[int | None] = set()
        self._script = script

    async def ask(self, query: str, item_id: str, item_text: str, *, seed: int | None = None) -> Result:
        await asyncio.sleep(0)
        self.seeds.add(seed)
        self.asked[item_id] += 1
        return self._script(item_id, self.asked[item_id])


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "BAD_RESPONSE_REST_S", 0)


def ask(
    folder: Path, judge: Scripted, pairs: list[PairToAnnotate], *, samples: int = 2
) -> tuple[set[Key], list[Result]]:
    told: list[Result] = []
    with Ledger(folder / "ledger.sqlite3", AUTHORS) as ledger:
        asked = run.questions(pairs, "a", samples=samples, answered=ledger.keys())
        asyncio.run(
            run.ask(
                cast(Judge, judge),
                "a",
                asked,
                ledger,
                concurrency=3,
                on_answer=lambda _, result: told.append(result),
            )
        )
        return ledger.keys(), told


def test_every_sample_is_asked_once_with_its_own_seed(tmp_path: Path) -> None:
    judge = Scripted(lambda _, __: judgement())
    pairs = [pair(number) for number in range(5)]
    keys, told = ask(tmp_path, judge, pairs)
    assert keys == {Key(each.key, "a", sample) for each in pairs for sample in (0, 1)}
    assert (len(told), len(judge.seeds)) == (10, 10)
    ask(tmp_path, judge, pairs)
    assert set(judge.asked.values()) == {2}
    more, _ = ask(tmp_path, judge, pairs, samples=3)
    assert len(more) == 15
    assert set(judge.asked.values()) == {3}


def test_a_pair_that_finds_nobody_is_left_for_another_run(tmp_path: Path) -> None:
    judge = Scripted(lambda item, _: AWAY if item == "i2" else judgement())
    pairs = [pair(number) for number in range(6)]
    keys, told = ask(tmp_path, judge, pairs)
    assert {key.pair for key in keys} == {each.key for each in pairs if each.item_id != "i2"}
    assert len(told) == 10


def test_an_endpoint_that_is_away_for_all_stops_the_run(tmp_path: Path) -> None:
    judge = Scripted(lambda _, __: AWAY)
    with pytest.raises(run.AnnotatorAwayError, match="annotator a is away: no connection"):
        ask(tmp_path, judge, [pair(number) for number in range(50)])
    assert judge.asked.total() < 10


def test_an_answer_cut_by_the_server_is_asked_again_and_at_last_a_refusal(tmp_path: Path) -> None:
    judge = Scripted(lambda item, asked: BAD if item == "i0" or asked < 3 else judgement())
    keys, told = ask(tmp_path, judge, [pair(0), pair(1)], samples=1)
    assert len(keys) == 2
    assert judge.asked == {"i0": 3, "i1": 3}
    assert sorted(type(result).__name__ for result in told) == ["Judgement", "Refusal"]


def test_the_arbiter_looks_at_what_is_whole_open_and_not_reviewed(tmp_path: Path) -> None:
    agreed, split, half = pair(0), pair(1), pair(2)
    with Ledger(tmp_path / "ledger.sqlite3", AUTHORS) as ledger:
        for each in (agreed, split, half):
            for sample in (0, 1):
                ledger.record(Key(each.key, "a", sample), judgement("E"))
        for sample in (0, 1):
            ledger.record(Key(agreed.key, "b", sample), judgement("E"))
            ledger.record(Key(split.key, "b", sample), judgement("S"))
        ledger.record(Key(half.key, "b", 0), judgement("S"))
        assert run.open_pairs([agreed, split, half], PLAN, ledger) == [split]
        ledger.review({split.key: Review(grade="S", comment="")})
        assert run.open_pairs([agreed, split, half], PLAN, ledger) == []
