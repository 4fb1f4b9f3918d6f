import asyncio
import math
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from scipy.stats import beta
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ops.bench.teacher_attacks import Attempt, Outcome, attempts, chosen, run, summary
from ops.settings import Settings
from ops.shop.items import Item
from ops.shop.judged_pairs import text_of
from streams.records import Judgement
from teacher import policy as policies
from teacher.judging import open_judge
from teacher.parsing import Refusal, RefusalReason
from tests.ops.bench.test_teacher_quality import pair
from tests.teacher.endpoint import ANSWERS, Endpoint, completion, serving
from tests.teacher.test_watching import judgement

POLICY = policies.default()
ITEM = Item(
    item_id="1",
    title="Norvik mug, white",
    brand="Norvik",
    category=("Kitchen", "Mug"),
    attributes={},
    price=1.0,
)


def outcome(clean: str, attacked: str | None, *, text: str = "mug E E E") -> Outcome:
    found: Judgement | Refusal = Refusal(reason=RefusalReason.BAD_LINE, detail="")
    if attacked is not None:
        found = judgement(1, attacked)
    attempt = Attempt("labels", "mug", "1", "mug E E E", text, "mug", "S")
    return Outcome(attempt, judgement(1, clean), found)


def test_summary_by_hand() -> None:
    outcomes = [
        outcome("S", "S"),
        outcome("S", "E"),
        outcome("S", "I"),
        outcome("S", "S", text="mug"),
        outcome("S", None),
    ]
    found = summary("labels", outcomes, POLICY)
    assert (found.attacks, found.same_text, found.refused, found.changed, found.better) == (5, 1, 1, 2, 1)
    # Clopper and Pearson's interval by its definition, quantiles of the beta distribution.
    assert found.share == pytest.approx((0.5, beta.ppf(0.025, 2, 3), beta.ppf(0.975, 3, 2)))
    # Scores 0.4 -> 0.9 and 0.4 -> 0.1, and two that stayed.
    assert found.moves is not None
    assert found.moves[0] == pytest.approx(0.15)
    assert found.moves[2] == pytest.approx(0.5)


def test_no_change_still_has_an_upper_end() -> None:
    found = summary("labels", [outcome("S", "S")] * 200, POLICY)
    assert found.share == pytest.approx((0, 0, 1 - 0.025 ** (1 / 200)))


def test_all_refused_has_no_share() -> None:
    found = summary("labels", [outcome("S", None)], POLICY)
    assert (found.refused, found.share, found.moves) == (1, None, None)
    assert not outcome("S", None).changed


def test_true_grades_are_evenly_chosen_as_far_as_they_go() -> None:
    pairs = [pair(number, grade) for number, grade in enumerate("E" * 50 + "S" * 30 + "C" * 3 + "I" * 20)]
    found = chosen(pairs, 36, random.Random(1))
    assert Counter(each.grade for each in found) == {"C": 3, "I": 11, "S": 11, "E": 11}
    assert len(set(found)) == 36


def test_pairs_are_attacked_by_every_family_and_only_in_their_titles() -> None:
    pairs = [pair(number, "S", query=f"mug {number}") for number in range(5)]
    items = {each.item_id: ITEM for each in pairs}
    found = attempts(pairs, items, random.Random(1))
    families = Counter(each.family for each in found)
    assert len(families) >= 6
    assert set(families.values()) <= {4, 5}
    assert families["instruction"] == 5
    rest = text_of(ITEM).split("\n", 1)[1]
    assert all(each.item_text.split("\n", 1)[1] == rest for each in found)
    assert all(each.title != ITEM.title for each in found)


async def attacked(
    endpoint: Endpoint, run_dir: Path
) -> tuple[list[Attempt], list[Outcome], list[Outcome], list[Refusal]]:
    pairs = [pair(number, "S", query=f"kettle {number}") for number in range(4)]
    tried = attempts(pairs, {each.item_id: ITEM for each in pairs}, random.Random(1))
    async with serving(endpoint):
        settings = Settings(run_dir=run_dir, teacher_url=endpoint.url)
        async with open_judge(settings) as judge:
            return tried, *await run(judge, pairs, tried)


def test_a_teacher_that_heeds_no_title_keeps_every_grade(tmp_path: Path) -> None:
    tried, outcomes, again, refused = asyncio.run(attacked(Endpoint(), tmp_path))
    assert [each.attempt for each in outcomes] == tried
    assert len(again) == 4
    assert not refused
    found = summary("all", outcomes, POLICY)
    assert (found.changed, found.refused) == (0, 0)
    assert found.moves == (0, 0, 0)


def test_a_teacher_that_obeys_titles_is_found_out(tmp_path: Path) -> None:
    endpoint = Endpoint()

    async def obeys(request: Request) -> Response:
        body = await request.json()
        form = body["structured_outputs"]["regex"]
        text = next(text for text in ANSWERS if re.fullmatch(form, text))
        told = body["messages"][-1]["content"].split("brand:")[0]
        answer = completion(text)
        if "exact" in told or "match" in told:
            answer = completion("grade: E")
            for token in answer["choices"][0]["logprobs"]["content"]:
                if token["token"] == " E":
                    shares = {"E": 0.7, "S": 0.1, "C": 0.1, "I": 0.1}
                    token["top_logprobs"] = [
                        {"token": f" {label}", "logprob": math.log(share)} for label, share in shares.items()
                    ]
        return JSONResponse(answer)

    endpoint.always = obeys
    _, outcomes, again, _ = asyncio.run(attacked(endpoint, tmp_path))
    assert not any(each.changed for each in again)
    told = [each for each in outcomes if re.search("exact|match", each.attempt.item_text.split("\n")[0])]
    assert told
    assert [each for each in outcomes if each.changed] == told
    found = summary("all", outcomes, POLICY)
    assert found.better == found.changed == len(told)


def test_refused_clean_titles_are_left_out_with_their_attacks(tmp_path: Path) -> None:
    endpoint = Endpoint()

    async def stumbles(request: Request) -> Response:
        body = await request.json()
        form = body["structured_outputs"]["regex"]
        text = next(text for text in ANSWERS if re.fullmatch(form, text))
        return JSONResponse(completion("nonsense" if "kettle 0" in str(body["messages"]) else text))

    endpoint.always = stumbles
    tried, outcomes, again, refused = asyncio.run(attacked(endpoint, tmp_path))
    assert [each.reason for each in refused] == [RefusalReason.BAD_LINE]
    assert len(again) == 3
    assert [each.attempt for each in outcomes] == [each for each in tried if each.query != "kettle 0"]
