"""Questions to OpenAI-compatible endpoints: several addresses, bounded concurrency, retries of transient faults.

An endpoint that fails is rested and the others take over. Of those not resting the one with the fewest requests in
flight is asked, and one that failed last time gets a single request until it has answered. The package's own
retries are off: they would stay with the endpoint that fails.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import openai

from teacher.completion import Completion, CompletionError, decode

TOP_LOGPROBS: Final = 20
CONNECT_TIMEOUT_S: Final = 10.0
FIRST_REST_S: Final = 0.5
MAX_REST_S: Final = 8.0
#: A server may ask for longer than the own rests, but not for an hour.
MAX_ASKED_REST_S: Final = 60.0
_TRANSIENT: Final = frozenset({408, 409, 429})
#: What a proxy answers while the server behind it is down or starting.
_AWAY: Final = frozenset({502, 503, 504})
#: How vLLM ends the answers that are open when it is told to stop.
_ABORTED: Final = "abort"
_TOLD_CHARS: Final = 300

_Read = TypeVar("_Read")


class TeacherError(RuntimeError):
    """An endpoint did not answer as it should. The message names it and what came."""


class UnavailableError(TeacherError):
    """Every try met a transient fault. `away` tells that nobody was there; `rest_s` is what the server asked for."""

    def __init__(self, message: str, *, away: bool = False, rest_s: float | None = None) -> None:
        """Hold what the next try depends on."""
        super().__init__(message)
        self.away = away
        self.rest_s = rest_s


class RejectedError(TeacherError):
    """The endpoint refused the request with a 4xx status: asking again would not help."""

    def __init__(self, message: str, *, status: int) -> None:
        """Hold the HTTP status."""
        super().__init__(message)
        self.status = status


class BadResponseError(TeacherError):
    """The endpoint answered with something else than the API's form."""


class _Endpoint:
    def __init__(self, url: str, api: openai.AsyncOpenAI) -> None:
        self.url = url
        self.api = api
        self.in_flight = 0
        self.failures = 0
        self.rests_until_s = 0.0

    def preference(self) -> tuple[bool, int]:
        return self.failures > 0 and self.in_flight > 0, self.in_flight

    def fail(self, now_s: float, asked_s: float | None, jitter: float) -> None:
        # Requests that were in flight together fail together: that is one failure.
        if now_s >= self.rests_until_s:
            self.failures += 1
        rest = rest_s(self.failures, asked_s=asked_s, jitter=jitter)
        self.rests_until_s = max(self.rests_until_s, now_s + rest)


def rest_s(failures: int, *, asked_s: float | None, jitter: float) -> float:
    """Return how long to leave an endpoint alone after so many failures in a row; `jitter` is in [0, 1).

    What the server asked for holds, up to MAX_ASKED_REST_S; else the rest doubles from FIRST_REST_S to
    MAX_REST_S, less up to a quarter.

    >>> [rest_s(n, asked_s=None, jitter=0.0) for n in (1, 2, 3, 99)]
    [0.5, 1.0, 2.0, 8.0]
    """
    if asked_s is not None:
        return min(asked_s, MAX_ASKED_REST_S)
    doubled: float = FIRST_REST_S * 2.0 ** min(max(failures, 1) - 1, 20)
    return min(doubled, MAX_REST_S) * (1 - jitter / 4)


class TeacherClient:
    """Asks one model under one or more addresses `http(s)://host:port/v1`. Use as an async context manager."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        model: str,
        api_key: str = "",
        concurrency: int = 32,
        timeout_s: float = 120,
        retries: int = 4,
        wait_for_server_s: float = 0,
        rng: random.Random | None = None,
    ) -> None:
        """Open nothing yet. `concurrency` bounds the requests in flight over all addresses, `timeout_s` one try.

        Of one request at most `retries` tries are repeated, after transient faults only: no connection, a
        timeout, status 408, 409, 429, 5xx. For `wait_for_server_s` after its first fault, tries that nobody
        answered do not count, so that a server may be killed and come back.
        """
        addresses = list(dict.fromkeys(url.rstrip("/") for url in urls))
        if not addresses:
            raise ValueError("expected at least one address http(s)://host:port/v1, got none")
        self.model = model
        self.concurrency = concurrency
        self._retries = retries
        self._timeout_s = timeout_s
        self._wait_for_server_s = wait_for_server_s
        self._rng = rng or random.Random()
        self._slots = asyncio.Semaphore(concurrency)
        timeout = openai.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S), pool=None)
        self._endpoints = {
            url: _Endpoint(
                url,
                # A key must be named: else the package takes one from the environment, meant for somebody else.
                openai.AsyncOpenAI(base_url=url, api_key=api_key or "none", max_retries=0, timeout=timeout),
            )
            for url in addresses
        }

    @property
    def urls(self) -> tuple[str, ...]:
        """Return the addresses."""
        return tuple(self._endpoints)

    async def __aenter__(self) -> TeacherClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        for endpoint in self._endpoints.values():
            await endpoint.api.close()

    async def complete(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        max_tokens: int,
        regex: str | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
        url: str | None = None,
    ) -> Completion:
        """Return the model's answer to a chat, with its tokens' log-probabilities; `url` pins it to one address.

        The whole answer meets `regex`, through vLLM's structured output; None leaves it free. Raises
        UnavailableError, RejectedError or BadResponseError.
        """
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(messages),
            "max_tokens": max_tokens,
            "temperature": temperature,
            "logprobs": True,
            "top_logprobs": TOP_LOGPROBS,
        }
        if regex is not None:
            body["structured_outputs"] = {"regex": regex}
        if seed is not None:
            body["seed"] = seed
        return await self._ask("/chat/completions", body, url, read=_completion)

    async def request(
        self, path: str, body: Mapping[str, Any] | None = None, *, url: str, at_root: bool = False
    ) -> bytes:
        """Return what one address answers to a POST of `body`, or to a GET without one. Raises as `complete`.

        `at_root` asks the server's root, where vLLM has what is not part of OpenAI's API, not `/v1`.
        """
        return await self._ask(path, body, url, read=_as_it_came, at_root=at_root)

    async def _ask(
        self,
        path: str,
        body: Mapping[str, Any] | None,
        url: str | None,
        *,
        read: Callable[[bytes, float, str], _Read],
        at_root: bool = False,
    ) -> _Read:
        failures = 0
        first_fault_s: float | None = None
        while True:
            async with self._slots:
                endpoint = await self._next(url)
                started_s = time.perf_counter()
                try:
                    answer = await self._try(endpoint, path, body, at_root=at_root)
                    result = read(answer, (time.perf_counter() - started_s) * 1000, endpoint.url)
                except UnavailableError as error:
                    now_s = time.monotonic()
                    endpoint.fail(now_s, error.rest_s, self._rng.random())
                    first_fault_s = now_s if first_fault_s is None else first_fault_s
                    if not error.away or now_s - first_fault_s >= self._wait_for_server_s:
                        failures += 1
                    if failures > self._retries:
                        raise
                else:
                    endpoint.failures = 0
                    return result

    async def _next(self, url: str | None) -> _Endpoint:
        among = [self._endpoints[url]] if url else list(self._endpoints.values())
        while True:
            now_s = time.monotonic()
            if awake := [endpoint for endpoint in among if endpoint.rests_until_s <= now_s]:
                return min(awake, key=_Endpoint.preference)
            await asyncio.sleep(min(endpoint.rests_until_s for endpoint in among) - now_s)

    async def _try(
        self, endpoint: _Endpoint, path: str, body: Mapping[str, Any] | None, *, at_root: bool
    ) -> bytes:
        address = (endpoint.url.removesuffix("/v1") if at_root else endpoint.url) + path
        endpoint.in_flight += 1
        try:
            # The package's timeout is per read; a server that drips would never meet it.
            async with asyncio.timeout(self._timeout_s):
                if body is None:
                    text = await endpoint.api.get(address, cast_to=str)
                else:
                    text = await endpoint.api.post(address, cast_to=str, body=dict(body))
        except (TimeoutError, openai.APITimeoutError) as error:
            raise UnavailableError(f"{address}: no answer within {self._timeout_s:g} s", away=True) from error
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise UnavailableError(f"{address}: {type(cause).__name__}: {cause}", away=True) from error
        except openai.APIStatusError as error:
            raise _refused(address, error) from error
        finally:
            endpoint.in_flight -= 1
        return text.encode("utf-8", "surrogatepass")


def _refused(address: str, error: openai.APIStatusError) -> TeacherError:
    status = error.status_code
    told = f"{address}: HTTP {status}: {error.message[:_TOLD_CHARS]}"
    if status in _TRANSIENT or status >= 500:
        return UnavailableError(
            told, away=status in _AWAY, rest_s=_asked_rest_s(error.response.headers.get("retry-after"))
        )
    return RejectedError(told, status=status)


def _asked_rest_s(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header; None for none, and for a date, which needs equal clocks."""
    try:
        seconds = float(header or "nan")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _as_it_came(answer: bytes, _: float, __: str) -> bytes:
    return answer


def _completion(answer: bytes, latency_ms: float, url: str) -> Completion:
    try:
        completion = decode(answer, latency_ms=latency_ms)
    except CompletionError as error:
        raise BadResponseError(f"{url}: {error}") from error
    if completion.finish_reason == _ABORTED:
        raise UnavailableError(f"{url}: the server broke the answer off, as it does when it stops", away=True)
    return completion
