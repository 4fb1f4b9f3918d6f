"""What the API takes and gives: the query string, checked, and answers in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ops.dashboard.cached import Cached
from ops.dashboard.queries import MAX_ROWS
from ops.dashboard.teacher_queries import NEWEST

FIRST_WITHIN_S = 30.0
MAX_TEXT_CHARS = 2000


class Parameters:
    """The query string, checked. Raises HTTPException 400 that names what was expected and what came."""

    def __init__(self, request: Request, expected: Sequence[str]) -> None:
        self._given = request.query_params
        for name in self._given:
            if name not in expected:
                raise HTTPException(400, f"no parameter {name[:40]!r}; expected {', '.join(expected)}")

    def text(self, name: str, *, required: bool = False) -> str:
        """Return a text of at most `MAX_TEXT_CHARS`, empty if it is not given."""
        if required and name not in self._given:
            raise HTTPException(400, f"{name}: expected, but it is missing")
        text = self._given.get(name, "")
        if len(text) > MAX_TEXT_CHARS:
            raise HTTPException(400, f"{name}: expected at most {MAX_TEXT_CHARS} characters, got {len(text)}")
        return text

    def choice(self, name: str, choices: Sequence[Any], default: str = "") -> Any:
        """Return one of `choices`."""
        value = self._given.get(name, default)
        if value not in choices:
            expected = ", ".join(repr(choice) for choice in choices)
            raise HTTPException(400, f"{name}: expected one of {expected}, got {value[:40]!r}")
        return value

    def whole(self, name: str, *, at_most: int, at_least: int = 0, default: int) -> int:
        """Return a whole number within its bounds."""
        value = self._given.get(name, str(default))
        digits = value.isascii() and value.isdigit() and len(value) <= len(str(at_most))
        if not (digits and at_least <= int(value) <= at_most):
            raise HTTPException(
                400, f"{name}: expected a whole number from {at_least} to {at_most}, got {value[:40]!r}"
            )
        return int(value)

    def before(self) -> tuple[int, int]:
        """Return (at_ms, id) of the last row of the page before; after every row if it is not given."""
        return (
            self.whole("before_ms", at_most=NEWEST[0], default=NEWEST[0]),
            self.whole("before_id", at_most=2**64 - 1, default=NEWEST[1]),
        )

    def limit(self) -> int:
        """Return how many rows to answer with."""
        return self.whole("limit", at_least=1, at_most=MAX_ROWS, default=100)


async def cached_answer(cached: Cached[Any]) -> Response:
    """Return a value that all who look share, with when it was made and why a newer one failed. Raises HTTPException
    503 while there is none."""
    outcome = await cached.latest(wait_s=FIRST_WITHIN_S)
    if outcome.value is None:
        raise HTTPException(503, f"no figures yet: {outcome.error or 'they are being computed'}")
    return json_answer(msgspec.json.encode(outcome))


def json_answer(body: bytes) -> Response:
    """Return JSON that nobody keeps."""
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})
