"""The teacher's part of the API: figures, the list of judgements, one judgement."""

from __future__ import annotations

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ops.dashboard.api import Parameters, cached_answer, json_answer
from ops.dashboard.cached import Cached
from ops.dashboard.source import Source

FIGURES_EVERY_S = 5.0
IDENTITY = ("query", "item", "content", "teacher", "prompt")


class TeacherApi:
    """The handlers. The figures are computed once for everyone who looks."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._figures = Cached(source.teacher, every_s=FIGURES_EVERY_S)

    def routes(self) -> list[Route]:
        """Return the paths and who answers them."""
        return [
            Route("/api/teacher", self.figures),
            Route("/api/judgements", self.judgements),
            Route("/api/judgement", self.judgement),
        ]

    async def figures(self, request: Request) -> Response:
        Parameters(request, ())
        return await cached_answer(self._figures)

    async def judgements(self, request: Request) -> Response:
        given = Parameters(request, ("q", "grade", "mismatch", "teacher", "before_ms", "before_id", "limit"))
        rows = await run_in_threadpool(
            self._source.judgements,
            search=given.text("q"),
            grade=given.text("grade"),
            mismatch=given.text("mismatch"),
            teacher=given.text("teacher"),
            before=given.before(),
            limit=given.limit(),
        )
        return json_answer(msgspec.json.encode({"judgements": rows}))

    async def judgement(self, request: Request) -> Response:
        given = Parameters(request, IDENTITY)
        query, item_id, content_hash, teacher_id, prompt_hash = (
            given.text(name, required=True) for name in IDENTITY
        )
        found = await run_in_threadpool(
            self._source.judgement,
            query=query,
            item_id=item_id,
            content_hash=content_hash,
            teacher_id=teacher_id,
            prompt_hash=prompt_hash,
        )
        if found is None:
            raise HTTPException(404, "there is no such judgement; it may have been judged anew since")
        return json_answer(msgspec.json.encode(found))
