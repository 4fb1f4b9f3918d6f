"""A small OpenAI-compatible server whose answers follow from the question, and that logs what it was asked.

It stands in for vLLM where a test kills and restarts servers many times; it proves nothing about real models.
`python -m tests.integration.annotation_server PORT MODEL LOG`
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import re
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

ANSWER_S = 0.05
LABELS = ("E", "S", "C", "I")
#: Of 100 questions so many get the pair's own grade; the others any.
STEADY = 80


def _number(*parts: object) -> int:
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest())


def answer(model: str, body: dict[str, object]) -> str:
    """Return the text that meets the form asked for."""
    form = body["structured_outputs"]["regex"]  # type: ignore[index]  # a JSON body of our own client
    if form.startswith("zq"):
        return "zq123kx"
    if alone := re.fullmatch(r"grade: (\w)", form):
        return f"grade: {alone[1]}"
    user = body["messages"][-1]["content"]  # type: ignore[index]  # the same
    steady = _number(model, user, body.get("seed")) % 100 < STEADY
    grade = LABELS[(_number(user) if steady else _number(user, body.get("seed"))) % 4]
    if form.startswith("grade: ("):
        return f"grade: {grade}"
    query, item = re.findall(r"<(?:query|item)>\n([^\n]+)", user)
    return f"{query.split()[-1]} | category | {item.split()[0]} | match\ngrade: {grade}"


def completion(model: str, text: str) -> dict[str, object]:
    """Return a chat completion of this text: tokens are words with the blank before them."""
    tokens = re.findall(r"\s?[^\s:]+|:|\n", text)
    content = []
    for token in tokens:
        others = [label for label in LABELS if label != token.strip()] if token.strip() in LABELS else []
        top = [{"token": token, "logprob": math.log(0.7)}]
        top += [{"token": f" {label}", "logprob": math.log(0.1)} for label in others]
        content.append({"token": token, "logprob": math.log(0.7), "top_logprobs": top})
    return {
        "model": model,
        "choices": [
            {"message": {"content": text}, "finish_reason": "stop", "logprobs": {"content": content}}
        ],
        "usage": {"prompt_tokens": 400, "completion_tokens": len(tokens)},
    }


def application(model: str, log: Path) -> Starlette:
    """Return the server's application; each answer is a line of `log`: the user's message and the seed."""
    # Unbuffered and appended, so that a killed server has logged all that it has answered.
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def models(_: Request) -> JSONResponse:
        return JSONResponse({"data": [{"id": model, "root": model, "max_model_len": 4096}]})

    async def chat(request: Request) -> JSONResponse:
        body = await request.json()
        await asyncio.sleep(ANSWER_S)
        if "seed" in body:
            line = {"message": body["messages"][-1]["content"], "seed": body["seed"]}
            os.write(descriptor, json.dumps(line).encode() + b"\n")
        return JSONResponse(completion(model, answer(model, body)))

    return Starlette(
        routes=[Route("/v1/models", models), Route("/v1/chat/completions", chat, methods=["POST"])]
    )


if __name__ == "__main__":
    uvicorn.run(
        application(sys.argv[2], Path(sys.argv[3])),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="error",
    )
