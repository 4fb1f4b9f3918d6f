"""A pair's part of the API: pairs by words, one pair, what the served student says of it."""

from __future__ import annotations

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ops.dashboard.api import Parameters, json_answer
from ops.dashboard.source import Source

LARGEST_VERSION = 2**53


class PairApi:
    """The handlers."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def routes(self) -> list[Route]:
        """Return the paths and who answers them."""
        return [
            Route("/api/pairs", self.pairs),
            Route("/api/why", self.why),
            Route("/api/student", self.student),
        ]

    async def pairs(self, request: Request) -> Response:
        given = Parameters(request, ("q", "limit"))
        found = await run_in_threadpool(self._source.pairs_with, words=given.text("q"), limit=given.limit())
        return json_answer(msgspec.json.encode({"pairs": found}))

    async def why(self, request: Request) -> Response:
        given = Parameters(request, ("query", "item"))
        found = await run_in_threadpool(
            self._source.why,
            query=given.text("query", required=True),
            item_id=given.text("item", required=True),
        )
        if found is None:
            raise HTTPException(404, "this pair was never shown, sampled or judged")
        return json_answer(msgspec.json.encode(found))

    async def student(self, request: Request) -> Response:
        given = Parameters(request, ("query", "item", "version"))
        found = await run_in_threadpool(
            self._source.student,
            query=given.text("query", required=True),
            item_id=given.text("item", required=True),
            version=given.whole("version", at_most=LARGEST_VERSION, default=0),
        )
        return json_answer(msgspec.json.encode(found))
