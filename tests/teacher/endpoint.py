"""A small HTTP server that speaks the endpoint's interface and fails on demand."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

MODEL = "relevance-teacher"
CHAIN = "kettle | category | kettle | match\nred | colour | - | unstated\ngrade: S"
#: What it says: the first of these that meets the form asked for.
ANSWERS = (
    "zq123kx",
    CHAIN,
    "grade: S",
    "grade: E",
    "grade: C",
    "grade: I",
    "S",
    "E",
    "grade: Yes",
    "Yes",
    "No",
)
SHARES = {"E": 0.2, "S": 0.6, "C": 0.1, "I": 0.1, "Yes": 0.7, "No": 0.3}

Behaviour = Callable[[Request], Awaitable[Response]]


def tokens_of(text: str) -> list[str]:
    """Return words with the blank before them, and every other character alone."""
    return re.findall(r" ?\w+|[^\w]", text)


def token_logprobs(text: str) -> list[dict[str, Any]]:
    """Return the tokens as a server does; labels have the log-probabilities of SHARES."""
    listed = []
    for token in [*tokens_of(text), "<|im_end|>"]:
        blank = token[: len(token) - len(token.lstrip())]
        top = (
            {blank + label: math.log(share) for label, share in SHARES.items()}
            if token.strip() in SHARES
            else {token: -0.01}
        )
        listed.append(
            {
                "token": token,
                "logprob": top[token],
                "bytes": list(token.encode()),
                "top_logprobs": [{"token": other, "logprob": value} for other, value in top.items()],
            }
        )
    return listed


def completion(text: str, **other: Any) -> dict[str, Any]:
    """Return a chat completion with that text."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
        "logprobs": {"content": token_logprobs(text)},
    }
    usage = {"prompt_tokens": 400, "completion_tokens": 12, "prompt_tokens_details": {"cached_tokens": 320}}
    return {"object": "chat.completion", "choices": [choice | other], "usage": usage}


def status(code: int, **headers: str) -> Behaviour:
    """Answer with an error."""

    async def answer(_: Request) -> Response:
        return JSONResponse({"error": {"message": f"told {code}"}}, code, headers=headers)

    return answer


def says(content: object, **headers: str) -> Behaviour:
    """Answer with this content, as JSON if it is not bytes."""

    async def answer(_: Request) -> Response:
        if isinstance(content, bytes):
            return Response(content, media_type="application/json", headers=headers)
        return JSONResponse(content)

    return answer


def hangs(seconds: float = 60) -> Behaviour:
    """Answer late."""

    async def answer(_: Request) -> Response:
        await asyncio.sleep(seconds)
        return JSONResponse(completion(CHAIN))

    return answer


class _Cut(Response):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"100000"), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"choices": [', "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def cut(_: Request) -> Response:
    """Close the connection in the middle of the answer."""
    return _Cut()


class _Drip(Response):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(200):
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
            await asyncio.sleep(0.05)


async def drips(_: Request) -> Response:
    """Send a byte now and then, so that no single read times out."""
    return _Drip()


@dataclass
class Endpoint:
    """What the server does. `script` holds the behaviour of the next chats; after it, `always`, else good answers.
    Chats with one of the texts of `answers_about` get its behaviour alone."""

    script: list[Behaviour] = field(default_factory=list)
    answers_about: dict[str, Behaviour] = field(default_factory=dict)
    always: Behaviour | None = None
    models: Behaviour | None = None
    tokenize: Behaviour | None = None
    ignores_structured_outputs: bool = False
    root: str = MODEL
    max_model_len: int | None = 1024
    delay_s: float = 0.0
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    open_now: int = 0
    open_most: int = 0
    vocabulary: dict[str, int] = field(default_factory=dict)

    async def chat(self, request: Request) -> Response:
        """Answer a chat."""
        body = await request.json()
        self.asked.append(body)
        self.authorizations.append(request.headers.get("authorization", ""))
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        try:
            said = body["messages"][-1]["content"]
            about = [behaviour for text, behaviour in self.answers_about.items() if text in said]
            behaviour = about[0] if about else self.script.pop(0) if self.script else self.always
            if behaviour:
                return await behaviour(request)
            await asyncio.sleep(self.delay_s)
            form = body.get("structured_outputs", {}).get("regex", ".*")
            if self.ignores_structured_outputs:
                return JSONResponse(completion("The sea is blue."))
            return JSONResponse(completion(next(text for text in ANSWERS if re.fullmatch(form, text))))
        finally:
            self.open_now -= 1

    async def list_models(self, request: Request) -> Response:
        """Answer what is served."""
        if self.models:
            return await self.models(request)
        model = {"id": MODEL, "object": "model", "root": self.root, "max_model_len": self.max_model_len}
        return JSONResponse({"object": "list", "data": [model]})

    async def token_ids(self, request: Request) -> Response:
        """Answer the tokens of a text or a chat."""
        if self.tokenize:
            return await self.tokenize(request)
        body = await request.json()
        text = body["prompt"] if "prompt" in body else "\n".join(part["content"] for part in body["messages"])
        ids = [self.vocabulary.setdefault(token, len(self.vocabulary)) for token in tokens_of(text)]
        return JSONResponse({"tokens": ids, "count": len(ids), "max_model_len": self.max_model_len})

    @property
    def app(self) -> Starlette:
        """Return the application."""
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/models", self.list_models),
                Route("/tokenize", self.token_ids, methods=["POST"]),
            ]
        )


@asynccontextmanager
async def serving(endpoint: Endpoint, *, port: int = 0) -> AsyncIterator[Endpoint]:
    """Serve on loopback, at `port` or a free one; sets the endpoint's `url`."""
    config = uvicorn.Config(
        endpoint.app, host="127.0.0.1", port=port, log_level="critical", timeout_graceful_shutdown=0
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the server could not start"
        await asyncio.sleep(0.005)
    endpoint.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    try:
        yield endpoint
    finally:
        server.should_exit = True
        await task


def port_of(endpoint: Endpoint) -> int:
    """Return the port it was served at."""
    return int(endpoint.url.removesuffix("/v1").rpartition(":")[2])
