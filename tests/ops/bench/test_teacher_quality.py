import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from ops.bench.teacher_quality import Answer, Scored, ask, cell, common, differences, figures, lexical, scored
from ops.evaluation.bootstrap import Estimate
from ops.settings import Settings
from ops.shop.items import Item
from ops.shop.judged_pairs import JudgedPair
from teacher.parsing import Refusal, RefusalReason
from tests.teacher.endpoint import Endpoint, serving
from tests.teacher.test_watching import judgement


def pair(number: int, grade: str, *, query: str = "", traffic_class: str = "") -> JudgedPair:
    return JudgedPair(
        query=query or f"query {number // 4}",
        item_id=str(number),
        item_text="mug",
        grade=grade,
        traffic_class=traffic_class,
        source="test",
    )


PAIRS = [
    pair(number, grade, traffic_class="tail" if number > 24 else "head")
    for number, grade in enumerate("ESIE" * 12)
]


def scorer(scores: Mapping[str, float]) -> Scored:
    return Scored({(each.query, each.item_id): scores[each.grade] for each in PAIRS}, None)


def test_answers_survive_their_file_and_refusals_are_no_scores() -> None:
    answers = [
        Answer(pair=PAIRS[0], judgement=judgement(0, "E")),
        Answer(pair=PAIRS[1], refusal=Refusal(reason=RefusalReason.NO_GRADE, detail="")),
    ]
    read = msgspec.json.Decoder(Answer).decode_lines(msgspec.json.Encoder().encode_lines(answers))
    assert read == answers
    found = scored(read)
    assert found.scores == {("query 0", "0"): 0.9}
    assert found.grades == {("query 0", "0"): "E"}


def test_a_difference_is_over_the_pairs_that_both_judged() -> None:
    good = scorer({"E": 0.9, "S": 0.2, "I": 0.1})
    blind = Scored(dict.fromkeys(list(good.scores)[4:], 0.5), None)
    ours, theirs = common(PAIRS, good, blind)
    assert len(ours) == len(theirs) == 44
    assert ours.grade.tolist() == theirs.grade.tolist()
    found = differences(ours, theirs)
    assert found["AUC"] == Estimate(value=0.5, lower=0.5, upper=0.5)
    assert found["kappa"].why == "no grades predicted"


def test_figures_by_cut() -> None:
    (pairs,) = common(PAIRS, scorer({"E": 0.9, "S": 0.2, "I": 0.1}))
    cuts = pairs.cuts()
    assert list(cuts) == ["all", "head", "tail"]
    found = figures(cuts["all"])
    assert found["AUC"].value == 1
    assert found["ECE"].value == pytest.approx(0.1)
    assert found["ECE calibrated"].value == pytest.approx(0, abs=1e-9)
    assert figures(cuts["tail"])["AUC"].why == "no interval: 6 queries, 10 are needed"


def test_lexical_floor_reads_titles() -> None:
    items = {
        name: Item(item_id=name, title=title, brand="", category=(), attributes={}, price=1.0)
        for name, title in {"0": "red mug", "1": "blue cup", "2": "red cup"}.items()
    }
    pairs = [pair(0, "E", query="red mug"), pair(1, "I", query="red mug")]
    assert lexical(pairs, items).scores == {("red mug", "0"): 1, ("red mug", "1"): 0}


def test_cells() -> None:
    assert cell(Estimate(value=0.5, lower=0.25, upper=0.75)) == "0.500 [0.250, 0.750]"
    assert cell(Estimate(value=0.5, lower=-0.25, upper=0.75), signed=True) == "+0.500 [-0.250, +0.750]"
    assert cell(Estimate(value=None, why="one class")) == "- (one class)"
    assert cell(Estimate(value=0.5, why="no interval")) == "0.500 (no interval)"


def test_every_pair_gets_its_answer(tmp_path: Path) -> None:
    async def asked() -> list[Answer]:
        async with serving(Endpoint()) as endpoint:
            settings = Settings(run_dir=tmp_path, teacher_url=endpoint.url)
            return await ask(settings, PAIRS[:8], say=print)

    answers = asyncio.run(asked())
    assert [each.pair for each in answers] == PAIRS[:8]
    assert scored(answers).grades == {(each.query, each.item_id): "S" for each in PAIRS[:8]}
