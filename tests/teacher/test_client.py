"""The client against a real HTTP server that fails in every way it knows."""

from __future__ import annotations

import asyncio
import random
import time
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teacher import client as client_module
from teacher.client import (
    MAX_ASKED_REST_S,
    MAX_REST_S,
    BadResponseError,
    RejectedError,
    TeacherClient,
    TeacherError,
    UnavailableError,
    rest_s,
)
from teacher.completion import Completion, CompletionError, decode
from tests.teacher.endpoint import (
    MODEL,
    Behaviour,
    Endpoint,
    completion,
    cut,
    drips,
    hangs,
    port_of,
    says,
    serving,
    status,
)

broken_off = says(completion("grade", finish_reason="abort"))
MESSAGES = [{"role": "user", "content": "red kettle"}]


@pytest.fixture(autouse=True)
def _short_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_REST_S", 0.02)
    monkeypatch.setattr(client_module, "MAX_REST_S", 0.1)


def client(*endpoints: Endpoint, **options: Any) -> TeacherClient:
    held: dict[str, Any] = {"model": MODEL, "retries": 2, "timeout_s": 5, "rng": random.Random(1)}
    return TeacherClient([endpoint.url for endpoint in endpoints], **(held | options))


@asynccontextmanager
async def pair(endpoint: Endpoint, **options: Any) -> AsyncIterator[TeacherClient]:
    async with serving(endpoint), client(endpoint, **options) as asking:
        yield asking


def ask(endpoint: Endpoint, **options: Any) -> Completion:
    async def once() -> Completion:
        async with pair(endpoint, **options) as asking:
            return await asking.complete(MESSAGES, max_tokens=50)

    return asyncio.run(once())


def test_an_answer_comes_with_tokens_usage_and_latency() -> None:
    endpoint = Endpoint(delay_s=0.05)

    async def once() -> Completion:
        async with pair(endpoint, api_key="secret") as asking:
            return await asking.complete(
                MESSAGES, max_tokens=50, regex="grade: (E|S)", temperature=0.5, seed=3
            )

    got = asyncio.run(once())
    assert (got.text, got.finish_reason) == ("grade: S", "stop")
    assert [token.text for token in got.tokens] == ["grade", ":", " S", "<|im_end|>"]
    assert got.tokens[2].top[" E"] == pytest.approx(-1.6094, abs=1e-4)
    assert (got.prompt_tokens, got.cached_tokens, got.completion_tokens) == (400, 320, 12)
    assert 50 <= got.latency_ms < 5000
    assert endpoint.asked == [
        {
            "model": MODEL, "messages": MESSAGES, "max_tokens": 50, "temperature": 0.5, "seed": 3,
            "logprobs": True, "top_logprobs": 20, "structured_outputs": {"regex": "grade: (E|S)"},
        }
    ]  # fmt: skip
    assert endpoint.authorizations == ["Bearer secret"]


def test_a_key_of_somebody_else_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-somebody-else")
    endpoint = Endpoint()
    ask(endpoint)
    assert endpoint.authorizations == ["Bearer none"]


@pytest.mark.parametrize(
    "fault",
    [
        status(408),
        status(409),
        status(429),
        status(500),
        status(502),
        status(503),
        hangs(),
        cut,
        drips,
        broken_off,
    ],
    ids=["408", "409", "429", "500", "502", "503", "hang", "cut", "drip", "broken off"],
)
def test_a_transient_fault_is_tried_again(fault: Behaviour) -> None:
    endpoint = Endpoint(script=[fault])
    assert ask(endpoint, timeout_s=1.5).text == "zq123kx"
    assert len(endpoint.asked) == 2


@pytest.mark.parametrize("code", [400, 401, 403, 404, 413, 422])
def test_a_refused_request_is_not_tried_again(code: int) -> None:
    endpoint = Endpoint(always=status(code))
    with pytest.raises(RejectedError, match=f"HTTP {code}.*told {code}") as caught:
        ask(endpoint)
    assert caught.value.status == code
    assert len(endpoint.asked) == 1


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (status(500), "HTTP 500"),
        (status(429), "HTTP 429"),
        (hangs(), "no answer within 1 s"),
        (cut, "chat/compl"),
    ],
)
def test_transient_faults_that_stay_are_given_up(fault: Behaviour, told: str) -> None:
    endpoint = Endpoint(always=fault)
    with pytest.raises(UnavailableError, match=told):
        ask(endpoint, timeout_s=1, retries=2)
    assert len(endpoint.asked) == 3


def test_without_a_server_the_address_is_named() -> None:
    endpoint = Endpoint(url="http://127.0.0.1:1/v1")
    with pytest.raises(UnavailableError, match=r"http://127\.0\.0\.1:1/v1/chat/completions: ConnectError"):
        asyncio.run(client(endpoint).complete(MESSAGES, max_tokens=5))


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"no json",
        b"[]",
        b"null",
        b'{"choices": []}',
        b'{"choices": [{}], "usage": {}}',
        b"\xff\xfe",
        b"<html>",
    ],
)
def test_garbage_is_named_and_not_asked_for_again(garbage: bytes) -> None:
    endpoint = Endpoint(always=says(garbage))
    with pytest.raises(BadResponseError, match="chat completion"):
        ask(endpoint)
    assert len(endpoint.asked) == 1


def test_what_a_server_leaves_out_is_empty() -> None:
    bare = completion("grade: S", logprobs=None, finish_reason=None)
    bare["usage"] = {"prompt_tokens": 7, "completion_tokens": 2}
    got = ask(Endpoint(always=says(bare)))
    assert (got.tokens, got.finish_reason, got.cached_tokens, got.prompt_tokens) == ((), "", 0, 7)
    silent = completion("")
    silent["choices"][0]["message"]["content"] = None
    assert ask(Endpoint(always=says(silent))).text == ""


def test_tokens_that_read_the_same_are_one() -> None:
    two = completion("E")
    two["choices"][0]["logprobs"]["content"] = [
        {
            "token": "E",
            "logprob": -1.0,
            "top_logprobs": [{"token": "E", "logprob": -1.0}, {"token": "E", "logprob": -1.0}],
        }
    ]
    (token,) = ask(Endpoint(always=says(two))).tokens
    assert token.top["E"] == pytest.approx(-1.0 + 0.6931, abs=1e-4)


@given(st.binary(max_size=60))
def test_decoding_never_fails_in_another_way(answer: bytes) -> None:
    with pytest.raises(CompletionError):
        decode(answer, latency_ms=1)


def test_retry_after_is_honoured() -> None:
    endpoint = Endpoint(script=[status(429, **{"Retry-After": "0.6"})])
    started = time.monotonic()
    assert ask(endpoint).text
    assert 0.6 <= time.monotonic() - started < 3


@pytest.mark.parametrize("header", ["soon", "-5", "nan", "inf", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_retry_after_that_says_nothing_is_passed_over(header: str) -> None:
    started = time.monotonic()
    assert ask(Endpoint(script=[status(429, **{"Retry-After": header})])).text
    assert time.monotonic() - started < 3


def test_rests_grow_to_a_bound_and_listen_to_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    own = [rest_s(failures, asked_s=None, jitter=0.0) for failures in range(1, 2000)]
    assert own == sorted(own)
    assert own[-1] == MAX_REST_S
    assert rest_s(1, asked_s=None, jitter=0.999) >= 0.75 * own[0]
    assert rest_s(1, asked_s=7.0, jitter=0.5) == 7.0
    assert rest_s(1, asked_s=9999.0, jitter=0.5) == MAX_ASKED_REST_S


def many(asking: TeacherClient, count: int) -> Future[list[Completion]]:
    return asyncio.gather(*(asking.complete(MESSAGES, max_tokens=5) for _ in range(count)))


def test_concurrency_is_bounded_over_all_addresses_and_shared_evenly() -> None:
    async def run() -> None:
        first, second = Endpoint(delay_s=0.02), Endpoint(delay_s=0.02)
        async with serving(first), serving(second), client(first, second, concurrency=6) as asking:
            assert len(await many(asking, 60)) == 60
        assert first.open_most <= 4
        assert second.open_most <= 4
        assert first.open_most + second.open_most >= 5
        assert min(len(first.asked), len(second.asked)) > 15

    asyncio.run(run())


@pytest.mark.parametrize("fault", [status(500), hangs(), cut], ids=["500", "hang", "cut"])
def test_others_take_over_from_an_address_that_fails(fault: Behaviour) -> None:
    async def run() -> None:
        bad, good = Endpoint(always=fault), Endpoint(delay_s=0.01)
        async with (
            serving(bad),
            serving(good),
            client(bad, good, concurrency=8, timeout_s=2, retries=4) as asking,
        ):
            assert len(await many(asking, 80)) == 80
        assert len(good.asked) >= 80
        assert len(bad.asked) < 20

    asyncio.run(run())


def test_an_address_that_recovers_is_used_again() -> None:
    async def run() -> None:
        first, second = Endpoint(delay_s=0.01), Endpoint(delay_s=0.01)
        first.script = [status(500)] * 3
        async with serving(first), serving(second), client(first, second, concurrency=4) as asking:
            await many(asking, 20)
            await asyncio.sleep(0.2)
            before = len(first.asked)
            await many(asking, 40)
        assert len(first.asked) - before > 10

    asyncio.run(run())


def test_an_address_can_be_pinned() -> None:
    async def run() -> None:
        first, second = Endpoint(), Endpoint()
        async with serving(first), serving(second), client(first, second) as asking:
            for _ in range(3):
                await asking.complete(MESSAGES, max_tokens=5, url=second.url)
        assert (len(first.asked), len(second.asked)) == (0, 3)

    asyncio.run(run())


def restarted(away_s: float, **options: Any) -> Callable[[], Coroutine[None, None, int]]:
    """Return a run in which the server dies under open requests and comes back."""

    async def run() -> int:
        first = Endpoint(delay_s=0.1)
        async with serving(first):
            asking = client(first, concurrency=4, **options)
            calls = asyncio.ensure_future(many(asking, 12))
            await asyncio.sleep(0.15)
        await asyncio.sleep(away_s)
        second = Endpoint(script=[status(503)])
        try:
            async with serving(second, port=port_of(first)), asking:
                return len(await calls)
        except TeacherError:
            calls.cancel()
            raise

    return run


def test_a_server_that_is_killed_and_comes_back_is_waited_for() -> None:
    assert asyncio.run(restarted(1.5, retries=1, wait_for_server_s=20)()) == 12


def test_without_waiting_it_is_given_up() -> None:
    with pytest.raises(UnavailableError):
        asyncio.run(restarted(1.5, retries=1)())


def test_waiting_for_a_server_has_an_end() -> None:
    asking = client(Endpoint(url="http://127.0.0.1:1/v1"), retries=1, wait_for_server_s=0.5)
    started = time.monotonic()
    with pytest.raises(UnavailableError):
        asyncio.run(asking.complete(MESSAGES, max_tokens=5))
    assert 0.5 <= time.monotonic() - started < 5


def test_waiting_does_not_stretch_to_a_server_that_answers_with_errors() -> None:
    endpoint = Endpoint(always=status(500))
    with pytest.raises(UnavailableError):
        ask(endpoint, wait_for_server_s=60)
    assert len(endpoint.asked) == 3


def test_cancellation_frees_the_slot() -> None:
    async def run() -> None:
        endpoint = Endpoint(script=[hangs()])
        async with pair(endpoint, concurrency=1) as asking:
            call = asyncio.ensure_future(asking.complete(MESSAGES, max_tokens=5))
            await asyncio.sleep(0.2)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert (await asking.complete(MESSAGES, max_tokens=5)).text

    asyncio.run(run())


def test_addresses_are_needed_and_each_counts_once() -> None:
    with pytest.raises(ValueError, match="at least one address"):
        TeacherClient([], model=MODEL)
    urls = TeacherClient(["http://a/v1", "http://a/v1/", "http://b/v1"], model=MODEL).urls
    assert urls == ("http://a/v1", "http://b/v1")
