"""The loop's part of the API: what the page shows, and the list of sampled pairs."""

from __future__ import annotations

from typing import get_args

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ops.dashboard.api import Parameters, cached_answer, json_answer
from ops.dashboard.cached import Cached
from ops.dashboard.sampling_queries import CLASSES, Lane, PairState
from ops.dashboard.source import Source

OVERVIEW_EVERY_S = 5.0


class LoopApi:
    """The handlers. The overview is computed once for everyone who looks."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._overview = Cached(source.loop, every_s=OVERVIEW_EVERY_S)

    def routes(self) -> list[Route]:
        """Return the paths and who answers them."""
        return [Route("/api/loop", self.overview), Route("/api/sampled", self.sampled)]

    async def overview(self, request: Request) -> Response:
        Parameters(request, ())
        return await cached_answer(self._overview)

    async def sampled(self, request: Request) -> Response:
        given = Parameters(request, ("q", "class", "lane", "state", "before_ms", "before_id", "limit"))
        found = await run_in_threadpool(
            self._source.sampled,
            search=given.text("q"),
            traffic_class=given.choice("class", ("", *CLASSES)),
            lane=given.choice("lane", get_args(Lane)),
            state=given.choice("state", get_args(PairState)),
            before=given.before(),
            limit=given.limit(),
        )
        return json_answer(msgspec.json.encode({"sampled": found}))
