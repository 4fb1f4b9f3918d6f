"""The pages: their addresses, and what they share around what is their own."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from string import Template

from plotly.offline import get_plotlyjs_version
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

#: Where the chart library is served.
PLOTLY = f"/static/plotly-{get_plotlyjs_version()}.js"


@dataclass(frozen=True, slots=True)
class Page:
    """A page. `file` and `script` are in `static`; `current` says how current its figures are, for people."""

    path: str
    name: str
    file: str
    script: str
    current: str


PAGES = (
    Page(
        "/",
        "Experiment",
        "index.html",
        "page.js",
        "Whether this page receives live numbers, and how old they are. New ones come about every two seconds.",
    ),
    Page(
        "/loop",
        "Loop",
        "loop.html",
        "loop.js",
        "How current the figures on this page are. They are asked for anew every five seconds.",
    ),
    Page(
        "/teacher",
        "Teacher",
        "teacher.html",
        "teacher.js",
        "How current the figures on this page are. They are asked for anew every ten seconds.",
    ),
    Page(
        "/why",
        "Why",
        "why.html",
        "why.js",
        "How current what this page says of a pair is. It is asked for anew every ten seconds.",
    ),
    Page(
        "/features",
        "Features",
        "features.html",
        "features.js",
        "How current the figures on this page are. They are asked for anew every five seconds.",
    ),
)


class Pages:
    """The pages' HTML, made once. `locked` tells whether a token is asked for: then one can log out."""

    def __init__(self, *, locked: bool) -> None:
        self._html = {page.path: _whole(page, locked=locked) for page in PAGES}

    def routes(self) -> list[Route]:
        """Return the paths of the pages and who answers them."""
        return [Route(page.path, self._answer) for page in PAGES]

    def login(self) -> Response:
        """Return the form that asks for the token."""
        return _html(_static_file("login.html"))

    async def _answer(self, request: Request) -> Response:
        return _html(self._html[request.url.path])


def _html(text: str) -> Response:
    return Response(text, media_type="text/html", headers={"Cache-Control": "no-cache"})


def _whole(page: Page, *, locked: bool) -> str:
    return Template(_static_file("layout.html")).substitute(
        title="Relevance Loop" if page.path == "/" else f"{page.name} · Relevance Loop",
        script=page.script,
        plotly=PLOTLY,
        pages="".join(_link(other, here=other is page) for other in PAGES),
        current=page.current,
        logout="" if locked else "hidden",
        content=_static_file(page.file),
    )


def _static_file(name: str) -> str:
    return resources.files("ops.dashboard").joinpath("static", name).read_text(encoding="utf-8")


def _link(page: Page, *, here: bool) -> str:
    current = ' aria-current="page"' if here else ""
    return f'<a href="{page.path}"{current}>{page.name}</a>'
