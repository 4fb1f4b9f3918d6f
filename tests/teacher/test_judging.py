"""Judging against a real HTTP server: what is asked, kept, refused, and never asked twice."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ops.settings import Settings
from ops.settings import Teacher as TeacherSettings
from streams.item_text import content_hash
from streams.records import Judgement
from teacher import client as client_module
from teacher.cache import JudgementCache
from teacher.client import RejectedError, TeacherClient
from teacher.examples import Example
from teacher.judging import Judge, open_judge
from teacher.parsing import Refusal
from teacher.policy import YES_NO, default
from teacher.probe import ProbeError
from teacher.prompt import Mode, messages
from tests.teacher.endpoint import (
    CHAIN,
    MODEL,
    Behaviour,
    Endpoint,
    completion,
    cut,
    hangs,
    port_of,
    says,
    serving,
    status,
)

QUERY = "red kettle"
ITEM = "Nova kettle, crimson\nbrand: Nova"


@pytest.fixture(autouse=True)
def _short_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_REST_S", 0.02)
    monkeypatch.setattr(client_module, "MAX_REST_S", 0.1)


@asynccontextmanager
async def judging(
    endpoint: Endpoint, *, cache: JudgementCache | None = None, **options: Any
) -> AsyncIterator[Judge]:
    client_options: dict[str, Any] = {"concurrency": 8, "retries": 1, "timeout_s": 5}
    client_options |= {
        name: options.pop(name) for name in list(options) if name in (*client_options, "wait_for_server_s")
    }
    held: dict[str, Any] = {
        "policy": default(), "mode": Mode.CHAIN, "teacher_id": "t1", "max_tokens": 192, "now_ms": lambda: 42,
    }  # fmt: skip
    async with TeacherClient([endpoint.url], model=MODEL, **client_options) as client:
        yield Judge(client, cache=cache, **(held | options))


def judge_once(
    endpoint: Endpoint, *, query: str = QUERY, item: str = ITEM, **options: Any
) -> Judgement | Refusal:
    async def run() -> Judgement | Refusal:
        async with serving(endpoint), judging(endpoint, **options) as judge:
            return await judge.judge(query, "i1", item)

    return asyncio.run(run())


async def until(cache: JudgementCache, count: int) -> None:
    async with asyncio.timeout(60):
        while len(cache) < count:
            await asyncio.sleep(0.01)


def pair(number: int) -> Example:
    return Example(
        query=f"red kettle {number}", item_id=f"i{number}", item_text=ITEM, grade="E", source="test"
    )


def test_a_judgement_holds_chain_spans_distribution_and_cost() -> None:
    endpoint = Endpoint()
    got = judge_once(endpoint, query="  RED\u200b kettle ")
    assert isinstance(got, Judgement)
    assert (got.query, got.item_id, got.item_text, got.content_hash) == (
        "RED kettle",
        "i1",
        ITEM,
        content_hash(ITEM),
    )
    assert got.grades == pytest.approx({"E": 0.2, "S": 0.6, "C": 0.1, "I": 0.1})
    assert got.grade == "S"
    assert got.relevance_score == pytest.approx(0.2 * 1 + 0.6 * 0.1 + 0.1 * 0.01)
    assert [(v.subtask, v.verdict, v.query_span, v.item_span) for v in got.verdicts] == [
        ("category", "match", (4, 10), (5, 11)),
        ("colour", "unstated", (0, 3), None),
    ]
    assert (got.chain_of_thought, got.unlocated, got.judged_ms, got.teacher_id) == (CHAIN, 0, 42, "t1")
    assert (got.prompt_tokens, got.cached_tokens, got.completion_tokens) == (400, 320, 12)
    assert got.latency_ms > 0
    (asked,) = endpoint.asked
    assert asked["messages"] == messages(default(), Mode.CHAIN, "RED kettle", ITEM)
    assert asked["max_tokens"] == 192


def test_the_grade_alone_is_one_token_and_yes_over_yes_and_no() -> None:
    short = completion("Yes", finish_reason="length")
    endpoint = Endpoint(always=says(short))
    got = judge_once(endpoint, mode=Mode.SCORE, policy=default().with_grades(YES_NO))
    assert isinstance(got, Judgement)
    assert got.relevance_score == pytest.approx(0.7 / (0.7 + 0.3))
    assert (got.verdicts, got.grade, got.chain_of_thought) == ([], "Yes", "Yes")
    assert endpoint.asked[0]["max_tokens"] == 1
    assert endpoint.asked[0]["structured_outputs"] == {"regex": "(Yes|No)"}


def test_the_likeliest_label_is_the_grade_even_if_another_was_written() -> None:
    got = judge_once(Endpoint(always=says(completion("grade: I"))))
    assert isinstance(got, Judgement)
    assert (got.grade, got.chain_of_thought) == ("S", "grade: I")


def test_of_two_processes_that_judge_a_pair_at_once_the_first_judgement_holds(tmp_path: Path) -> None:
    path = tmp_path / "judgements.sqlite3"

    async def run() -> tuple[Judgement | Refusal, Judgement]:
        with JudgementCache(path) as cache, JudgementCache(path) as of_another:
            endpoint = Endpoint()
            async with serving(endpoint), judging(endpoint, cache=cache) as judge:
                fresh = await judge.ask(QUERY, "i1", ITEM)
                assert isinstance(fresh, Judgement)
                first = msgspec.structs.replace(fresh, judged_ms=7)

                async def meanwhile(_: Request) -> Response:
                    of_another.put(first)
                    return JSONResponse(completion(CHAIN))

                endpoint.script.append(meanwhile)
                return await judge.judge(QUERY, "i1", ITEM), first

    got, first = asyncio.run(run())
    assert got == first


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (says(completion(CHAIN[:-4], finish_reason="length")), "truncated"),
        (says(completion(CHAIN, finish_reason="length")), "truncated"),
        (says(completion(CHAIN, finish_reason="content_filter")), "bad_response"),
        (says(completion("It is a match.")), "bad_line"),
        (says(completion("")), "empty"),
        (says(completion(CHAIN, logprobs=None)), "no_probabilities"),
        (says(b"garbage"), "bad_response"),
        (status(400), "rejected"),
        (status(500), "unavailable"),
        (cut, "unavailable"),
    ],
)
def test_what_gives_no_judgement_is_refused_by_name_and_can_be_asked_again(
    behaviour: Behaviour, reason: str
) -> None:
    async def run() -> None:
        endpoint = Endpoint(always=behaviour)
        with JudgementCache(Path(":memory:")) as cache:
            async with serving(endpoint), judging(endpoint, cache=cache) as judge:
                refused = await judge.judge(QUERY, "i1", ITEM)
                assert isinstance(refused, Refusal)
                assert refused.reason == reason
                assert refused.detail
                assert len(cache) == 0
                endpoint.always = None
                assert isinstance(await judge.judge(QUERY, "i1", ITEM), Judgement)
                assert len(cache) == 1

    asyncio.run(run())


def test_a_refused_answer_tells_what_it_was_and_cost() -> None:
    refused = judge_once(Endpoint(always=says(completion("It is a match."))))
    assert isinstance(refused, Refusal)
    assert (refused.answer, refused.prompt_tokens, refused.completion_tokens) == ("It is a match.", 400, 12)


@pytest.mark.parametrize(
    ("query", "item"), [("", ITEM), ("\u200b \n", ITEM), (QUERY, ""), (QUERY, "\n"), (QUERY, "mug \ud800")]
)
def test_texts_that_cannot_be_asked_about_are_refused_unasked(query: str, item: str) -> None:
    endpoint = Endpoint()
    refused = judge_once(endpoint, query=query, item=item)
    assert isinstance(refused, Refusal)
    assert refused.reason == "unfit_text"
    assert endpoint.asked == []


@pytest.mark.parametrize("code", [401, 403, 404])
def test_an_endpoint_that_lets_nobody_in_stops_all(code: int) -> None:
    async def run() -> None:
        endpoint = Endpoint(always=status(code))
        async with serving(endpoint), judging(endpoint) as judge:
            await judge.judge_all([pair(number) for number in range(50)])

    with pytest.raises(RejectedError, match=f"HTTP {code}"):
        asyncio.run(run())


def test_nothing_is_asked_twice_unless_something_in_its_name_changed(tmp_path: Path) -> None:
    async def run() -> None:
        endpoint = Endpoint()
        async with serving(endpoint):
            for _ in range(2):
                with JudgementCache(tmp_path / "j") as cache:
                    async with judging(endpoint, cache=cache) as judge:
                        first = await judge.judge(QUERY, "i1", ITEM)
                        assert await judge.judge(f" {QUERY} ", "i1", ITEM) == first
            assert len(endpoint.asked) == 1
            with JudgementCache(tmp_path / "j") as cache:
                async with judging(endpoint, cache=cache) as judge:
                    await judge.judge(QUERY + "s", "i1", ITEM)
                    await judge.judge(QUERY, "i2", ITEM)
                    await judge.judge(QUERY, "i1", ITEM + "!")
                async with judging(endpoint, cache=cache, teacher_id="t2") as judge:
                    await judge.judge(QUERY, "i1", ITEM)
                async with judging(endpoint, cache=cache, max_tokens=100) as judge:
                    await judge.judge(QUERY, "i1", ITEM)
                assert len(endpoint.asked) == 6
                assert len(cache) == 6

    asyncio.run(run())


def test_samples_are_neither_looked_up_nor_kept() -> None:
    async def run() -> None:
        endpoint = Endpoint()
        with JudgementCache(Path(":memory:")) as cache:
            async with serving(endpoint), judging(endpoint, cache=cache, temperature=0.7) as judge:
                for seed in range(3):
                    assert isinstance(await judge.ask(QUERY, "i1", ITEM, seed=seed), Judgement)
            assert len(cache) == 0
        assert [asked["seed"] for asked in endpoint.asked] == [0, 1, 2]
        assert {asked["temperature"] for asked in endpoint.asked} == {0.7}

    asyncio.run(run())


def test_many_are_judged_in_order_each_pair_once_and_told_as_they_come() -> None:
    async def run() -> None:
        endpoint = Endpoint(script=[says(completion("nonsense")), hangs(0.5)])
        pairs = [pair(number % 30) for number in range(90)]
        told: dict[int, Judgement | Refusal] = {}
        async with serving(endpoint), judging(endpoint) as judge:
            results = await judge.judge_all(pairs, on_result=told.__setitem__)
        assert len(endpoint.asked) == 30
        assert [told[place] for place in range(90)] == results
        assert sum(isinstance(result, Refusal) for result in results) == 3
        for asked, got in zip(pairs, results, strict=True):
            if isinstance(got, Judgement):
                assert (got.query, got.item_id) == (asked.query, asked.item_id)

    asyncio.run(run())


def test_none_is_judged_of_none() -> None:
    async def run() -> list[Judgement | Refusal]:
        async with judging(Endpoint(url="http://127.0.0.1:1/v1")) as judge:
            return await judge.judge_all([])

    assert asyncio.run(run()) == []


def test_what_the_caller_raises_stops_the_call() -> None:
    async def run() -> None:
        endpoint = Endpoint(delay_s=0.01)

        def fail(place: int, _: object) -> None:
            if place == 3:
                raise KeyError("disk full")

        async with serving(endpoint), judging(endpoint, concurrency=2) as judge:
            with pytest.raises(KeyError, match="disk full"):
                await judge.judge_all([pair(number) for number in range(100)], on_result=fail)
            assert len(endpoint.asked) < 20

    asyncio.run(run())


def test_cancelling_leaves_what_was_judged_in_the_cache_and_nothing_running() -> None:
    async def run() -> None:
        endpoint = Endpoint(delay_s=0.02)
        with JudgementCache(Path(":memory:")) as cache:
            async with serving(endpoint), judging(endpoint, cache=cache, concurrency=4) as judge:
                before = asyncio.all_tasks()
                call = asyncio.ensure_future(judge.judge_all([pair(number) for number in range(1000)]))
                await until(cache, 5)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                kept = len(cache)
                assert 5 <= kept < 1000
                assert {task for task in asyncio.all_tasks() if "work" in repr(task.get_coro())} <= before
                done = await judge.judge_all([pair(number) for number in range(kept + 8)])
                assert all(isinstance(result, Judgement) for result in done)
                assert len(endpoint.asked) <= kept + 8 + 4

    asyncio.run(run())


def test_a_server_killed_in_the_middle_loses_no_pair_and_judges_none_twice() -> None:
    async def run() -> None:
        first, pairs = Endpoint(delay_s=0.02), [pair(number) for number in range(200)]
        with JudgementCache(Path(":memory:")) as cache:
            async with serving(first):
                judging_ = judging(first, cache=cache, wait_for_server_s=30)
                judge = await judging_.__aenter__()
                call = asyncio.ensure_future(judge.judge_all(pairs))
                await until(cache, 40)
            before = len(cache)
            await asyncio.sleep(0.5)
            second = Endpoint()
            async with serving(second, port=port_of(first)):
                results = await call
            await judging_.__aexit__(None, None, None)
            assert all(isinstance(result, Judgement) for result in results)
            assert {result.item_id for result in cache} == {one.item_id for one in pairs}
            assert 40 <= before < 200
            assert len(second.asked) == 200 - before

    asyncio.run(run())


def test_the_settings_open_a_probed_judge_with_a_cache_in_the_run_directory(tmp_path: Path) -> None:
    async def run() -> None:
        endpoint = Endpoint(root="/srv/teacher-1")
        async with serving(endpoint):
            settings = Settings(
                run_dir=tmp_path, teacher_url=endpoint.url, teacher=TeacherSettings(retries=0, mode="chain")
            )
            async with open_judge(settings) as judge:
                got = await judge.judge(QUERY, "i1", ITEM)
            assert isinstance(got, Judgement)
            assert got.teacher_id == f"{MODEL}@teacher-1"
            assert math.isclose(sum(got.grades.values()), 1)
            asked = len(endpoint.asked)
            async with open_judge(settings) as judge:
                assert await judge.judge(QUERY, "i1", ITEM) == got
                repeated = len(endpoint.asked) - asked
            assert repeated == asked - 1
            endpoint.models = status(401)
            with pytest.raises(ProbeError, match="list of models"):
                async with open_judge(settings):
                    pass

    asyncio.run(run())
