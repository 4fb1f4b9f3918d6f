"""The feature store's part of the API: what the page shows, and the logged reads for the audit."""

from __future__ import annotations

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ops.dashboard.api import Parameters, cached_answer, json_answer
from ops.dashboard.cached import Cached
from ops.dashboard.feature_queries import MAX_SEARCHES
from ops.dashboard.source import Source

OVERVIEW_EVERY_S = 5.0
LATEST_MS = 2**53
LARGEST = 2**64 - 1


class FeaturesApi:
    """The handlers. The overview is computed once for everyone who looks."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._overview = Cached(source.features, every_s=OVERVIEW_EVERY_S)

    def routes(self) -> list[Route]:
        """Return the paths and who answers them."""
        return [Route("/api/features", self.overview), Route("/api/feature-reads", self.reads)]

    async def overview(self, request: Request) -> Response:
        Parameters(request, ())
        return await cached_answer(self._overview)

    async def reads(self, request: Request) -> Response:
        given = Parameters(request, ("first_ms", "last_ms", "seed", "after", "limit"))
        found = await run_in_threadpool(
            self._source.feature_reads,
            first_ms=given.whole("first_ms", at_most=LATEST_MS, default=0),
            last_ms=given.whole("last_ms", at_most=LATEST_MS, default=LATEST_MS),
            seed=given.whole("seed", at_most=LARGEST, default=0),
            after=given.whole("after", at_most=LARGEST, default=0),
            limit=given.whole("limit", at_least=1, at_most=MAX_SEARCHES, default=MAX_SEARCHES),
        )
        return json_answer(msgspec.json.encode(found))
