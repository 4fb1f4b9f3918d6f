"""The dashboard's HTTP side: the page, its JSON API and one stream of snapshots by Server-Sent Events.

A snapshot is made once for everyone who looks, about every two seconds, and only while someone looks.
"""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from collections.abc import AsyncIterator, Callable
from functools import cache
from typing import get_args

import msgspec
from clickhouse_connect.driver.exceptions import ClickHouseError
from plotly.offline import get_plotlyjs
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ops.dashboard import access
from ops.dashboard.api import Parameters, json_answer
from ops.dashboard.cached import one_line
from ops.dashboard.features_api import FeaturesApi
from ops.dashboard.loop_api import LoopApi
from ops.dashboard.pages import PLOTLY, Pages
from ops.dashboard.pair_api import PairApi
from ops.dashboard.queries import QuerySort
from ops.dashboard.snapshots import SNAPSHOT_EVERY_S, Snapshots
from ops.dashboard.source import Source
from ops.dashboard.teacher_api import TeacherApi
from ops.settings import Settings
from streams.records import TrafficClass

MAX_VIEWERS = 200
RETRY_MS = 2000
#: How soon a stream notices that the server wants to stop.
CLOSING_EVERY_S = 0.25
FIRST_REPORT_WITHIN_S = 30
#: In the year 2286; epoch milliseconds.
MAX_TIME_MS = 9_999_999_999_999


def create_app(
    settings: Settings,
    source: Source,
    *,
    closing: threading.Event | None = None,
    clock: Callable[[], float] = time.time,
) -> Starlette:
    """Return the dashboard. Once `closing` is set it ends its streams, so that a server can stop at once.

    Raises AccessError if strangers could reach it without a token.
    """
    token = access.required_token(settings)
    dashboard = _Dashboard(settings, source, token, clock, closing or threading.Event())
    return Starlette(
        routes=[
            *dashboard.pages.routes(),
            Route("/login", dashboard.login_form, methods=["GET"]),
            Route("/login", dashboard.log_in, methods=["POST"]),
            Route("/logout", dashboard.log_out, methods=["POST"]),
            Route("/favicon.ico", lambda request: RedirectResponse("/static/icon.svg")),
            Route("/api/live", dashboard.live),
            Route("/api/overview", dashboard.overview),
            Route("/api/health", dashboard.health),
            Route("/api/experiment", dashboard.experiment),
            Route("/api/queries", dashboard.queries),
            Route("/api/query", dashboard.query),
            Route("/api/pair", dashboard.pair),
            Route("/api/dead-letters", dashboard.dead_letters),
            *LoopApi(source).routes(),
            *PairApi(source).routes(),
            *TeacherApi(source).routes(),
            *FeaturesApi(source).routes(),
            Route(PLOTLY, _plotly),
            Mount("/static", StaticFiles(packages=[("ops.dashboard", "static")])),
        ],
        middleware=[Middleware(access.Guard, token=token, clock=clock)],
        exception_handlers={HTTPException: _http_error, ClickHouseError: _store_error, OSError: _store_error},
    )


class _Dashboard:
    """The handlers, and what they share."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        token: str,
        clock: Callable[[], float],
        closing: threading.Event,
    ) -> None:
        self._source = source
        self._snapshots = Snapshots(settings, source)
        self._token = token
        self._clock = clock
        self._closing = closing
        self._viewers = 0
        arms = (settings.experiment.control, settings.experiment.treatment)
        self._arms = ("", *arms)
        self.pages = Pages(locked=bool(token))

    async def login_form(self, request: Request) -> Response:
        if not self._token:
            return RedirectResponse("/", status_code=303)
        return self.pages.login()

    async def log_in(self, request: Request) -> Response:
        if not self._token:
            return RedirectResponse("/", status_code=303)
        given = await access.token_in_form(request)
        return access.log_in(request, given, self._token, now_s=self._clock())

    async def log_out(self, request: Request) -> Response:
        response = RedirectResponse("/login", status_code=303)
        response.delete_cookie(access.COOKIE, httponly=True, samesite="strict")
        return response

    async def live(self, request: Request) -> Response:
        if self._viewers >= MAX_VIEWERS:
            raise HTTPException(
                503, f"{MAX_VIEWERS} viewers are connected, the most this page serves; try later"
            )
        return StreamingResponse(
            self._stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    async def _stream(self) -> AsyncIterator[bytes]:
        self._viewers += 1
        try:
            yield f"retry: {RETRY_MS}\n\n".encode()
            while not self._closing.is_set():
                yield b"data: " + await self._snapshots.latest() + b"\n\n"
                until_s = time.monotonic() + SNAPSHOT_EVERY_S
                while time.monotonic() < until_s and not self._closing.is_set():
                    await asyncio.sleep(CLOSING_EVERY_S)
        finally:
            self._viewers -= 1

    async def overview(self, request: Request) -> Response:
        return json_answer(await self._snapshots.latest())

    async def health(self, request: Request) -> Response:
        return json_answer(msgspec.json.encode(await self._snapshots.health()))

    async def experiment(self, request: Request) -> Response:
        since_ms = Parameters(request, ("since_ms",)).whole("since_ms", at_most=MAX_TIME_MS, default=0)
        if since_ms:
            found = await run_in_threadpool(self._source.report_since, since_ms)
            return json_answer(msgspec.json.encode(found))
        outcome = await self._snapshots.report()
        if outcome.value is None:
            outcome = await self._snapshots.report(wait_s=FIRST_REPORT_WITHIN_S)
        if outcome.value is None:
            raise HTTPException(503, f"no report yet: {outcome.error or 'it is being computed'}")
        return json_answer(msgspec.json.encode(outcome.value))

    async def queries(self, request: Request) -> Response:
        given = Parameters(request, ("arm", "q", "class", "sort", "order", "limit"))
        rows = await run_in_threadpool(
            self._source.queries,
            arm=given.choice("arm", self._arms),
            search=given.text("q"),
            traffic_class=given.choice("class", ("", *(str(name) for name in TrafficClass))),
            sort=given.choice("sort", get_args(QuerySort), default="impressions"),
            ascending=given.choice("order", ("desc", "asc"), default="desc") == "asc",
            limit=given.limit(),
        )
        return json_answer(msgspec.json.encode({"queries": rows}))

    async def query(self, request: Request) -> Response:
        given = Parameters(request, ("arm", "query", "limit"))
        rows = await run_in_threadpool(
            self._source.pairs,
            arm=given.choice("arm", self._arms),
            query=given.text("query", required=True),
            limit=given.limit(),
        )
        return json_answer(msgspec.json.encode({"pairs": rows}))

    async def pair(self, request: Request) -> Response:
        given = Parameters(request, ("arm", "query", "item", "limit"))
        rows = await run_in_threadpool(
            self._source.events,
            arm=given.choice("arm", self._arms),
            query=given.text("query", required=True),
            item_id=given.text("item", required=True),
            limit=given.limit(),
        )
        return json_answer(msgspec.json.encode({"events": rows}))

    async def dead_letters(self, request: Request) -> Response:
        given = Parameters(request, ("reason", "limit"))
        rows = await run_in_threadpool(
            self._source.dead_letters, reason=given.text("reason"), limit=given.limit()
        )
        return json_answer(msgspec.json.encode({"dead_letters": rows}))


async def _plotly(request: Request) -> Response:
    plain = "gzip" not in request.headers.get("accept-encoding", "")
    return Response(
        get_plotlyjs() if plain else await run_in_threadpool(_plotly_gzipped),
        media_type="text/javascript",
        headers={"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
        | ({} if plain else {"Content-Encoding": "gzip"}),
    )


@cache
def _plotly_gzipped() -> bytes:
    return gzip.compress(get_plotlyjs().encode(), compresslevel=6)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return access.refused(error.status_code, error.detail)


async def _store_error(request: Request, error: Exception) -> Response:
    return access.refused(503, f"the event store gave no answer: {one_line(error)}")
