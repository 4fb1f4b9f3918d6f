"""A chat completion as OpenAI-compatible servers send it, checked, and reduced to what judging needs."""

from __future__ import annotations

from typing import Final

import msgspec

from teacher.scoring import Token, log_sum

_SHOWN_BYTES: Final = 200


class CompletionError(ValueError):
    """An answer is not a chat completion. The message shows its beginning."""


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """An answer. `tokens` is empty if the server sent no log-probabilities; `latency_ms` is that of the try that
    succeeded; `cached_tokens` of the prompt were in the server's prefix cache, 0 if it does not tell."""

    text: str
    tokens: tuple[Token, ...]
    finish_reason: str
    latency_ms: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


class _Top(msgspec.Struct):
    token: str
    logprob: float


class _Token(_Top):
    top_logprobs: list[_Top] | None = None


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Cached(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _Cached | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage


def decode(answer: bytes, *, latency_ms: float) -> Completion:
    """Return the first choice of a chat completion. Raises CompletionError for anything else."""
    try:
        read = msgspec.json.decode(answer, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        shown = answer[:_SHOWN_BYTES].decode("utf-8", "replace")
        raise CompletionError(f"expected a chat completion ({error}), got {shown!r}") from error
    if not read.choices:
        raise CompletionError("expected a choice in the chat completion, got none")
    choice, usage = read.choices[0], read.usage
    tokens = (choice.logprobs.content if choice.logprobs else None) or []
    details = usage.prompt_tokens_details
    return Completion(
        text=choice.message.content or "",
        tokens=tuple(Token(text=token.token, top=_top(token)) for token in tokens),
        finish_reason=choice.finish_reason or "",
        latency_ms=latency_ms,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=(details.cached_tokens if details else None) or 0,
        completion_tokens=usage.completion_tokens,
    )


def _top(token: _Token) -> dict[str, float]:
    """Return the log-probabilities at a token's place, its own among them."""
    held: dict[str, list[float]] = {}
    for other in token.top_logprobs or []:
        held.setdefault(other.token, []).append(other.logprob)
    held.setdefault(token.token, [token.logprob])
    # Different tokens may read the same, since some tokenizers hide a leading blank.
    return {text: log_sum(values) for text, values in held.items()}
