from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from plotly.offline import get_plotlyjs_version
from starlette.testclient import TestClient

from ops.dashboard.access import AccessError
from ops.dashboard.app import create_app
from ops.dashboard.health import Part
from ops.dashboard.lag import GroupLag
from ops.dashboard.queries import Arrivals, DeadLetter, PairEvent, PairRow, QueryRow, Totals
from ops.dashboard.source import Source, StoreNumbers
from ops.experiments.report import ExperimentReport
from ops.settings import Settings
from streams.records import ExperimentState

LOOPBACK = "http://127.0.0.1:8080"
TOKEN = "a-long-login-token"


class FakeSource(Source):
    """Answers without a store; `fail` makes the store's answers errors."""

    def __init__(self) -> None:
        self.fail = False
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def _answer(self, name: str, asked: dict[str, Any]) -> None:
        self.asked.append((name, asked))
        if self.fail:
            raise DatabaseError("no server at <b>10.0.0.1</b>")

    def state(self) -> ExperimentState | None:
        return None

    def report(self) -> ExperimentReport:
        self._answer("report", {})
        raise DatabaseError("no such table")

    def store(self) -> StoreNumbers:
        self._answer("store", {})
        return StoreNumbers(Arrivals([], {}, None, None), Totals(1, 2, 3, 4, 5, 6.0, 7, 8, 9), [])

    def lag(self) -> list[GroupLag]:
        return []

    def parts(self) -> list[Part]:
        return [Part("broker", "ready", "", 0.1, {}), Part("streams-1", "ready", "", 0.1, {})]

    def queries(self, **asked: Any) -> list[QueryRow]:
        self._answer("queries", asked)
        return [QueryRow("<img onerror=x>", "tail", 10, 1, 0.1, 0, 0.0)]

    def pairs(self, **asked: Any) -> list[PairRow]:
        self._answer("pairs", asked)
        return [PairRow("item-1", 10, 1, 0.1, 0.5, 2.0, 3.5, None, 0, 0.0)]

    def events(self, **asked: Any) -> list[PairEvent]:
        self._answer("events", asked)
        return []

    def dead_letters(self, **asked: Any) -> list[DeadLetter]:
        self._answer("dead_letters", asked)
        return []


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
def open_page(source: FakeSource, tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(Settings.model_validate({"run_dir": tmp_path}), source)
    with TestClient(app, base_url=LOOPBACK, follow_redirects=False) as client:
        yield client


@pytest.fixture
def locked_page(source: FakeSource, tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings.model_validate({"run_dir": tmp_path, "metrics": {"host": "0.0.0.0", "token": TOKEN}})
    app = create_app(settings, source, clock=lambda: 1000.0)
    with TestClient(app, base_url="http://shop.example", follow_redirects=False) as client:
        yield client


def test_beyond_loopback_without_a_token_it_does_not_start(source: FakeSource) -> None:
    with pytest.raises(AccessError, match="RELEVANCE_METRICS__TOKEN"):
        create_app(Settings.model_validate({"metrics": {"host": "0.0.0.0"}}), source)


def test_every_answer_has_the_security_headers(open_page: TestClient) -> None:
    for path in ("/", "/static/style.css", "/api/health", "/nowhere"):
        headers = open_page.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_the_page_has_no_inline_script_or_style_and_names_no_other_host(open_page: TestClient) -> None:
    page = open_page.get("/").text
    assert "<script>" not in page
    assert "style=" not in page
    assert "<style" not in page
    assert "//" not in page.replace("<!doctype html>", "")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8080", "", "localhost.evil:1"])
def test_on_loopback_another_host_name_is_refused(open_page: TestClient, host: str) -> None:
    answer = open_page.get("/api/health", headers={"host": host})
    assert answer.status_code == 403
    assert "loopback" in answer.json()["error"]


@pytest.mark.parametrize("host", ["localhost:9", "127.0.0.1", "[::1]:8080"])
def test_on_loopback_its_own_names_are_welcome(open_page: TestClient, host: str) -> None:
    assert open_page.get("/api/health", headers={"host": host}).status_code == 200


def test_strangers_get_the_login_form_and_no_figures(locked_page: TestClient) -> None:
    assert locked_page.get("/").headers["location"] == "/login"
    for path in ("live", "overview", "health", "experiment", "queries", "query", "pair", "dead-letters"):
        answer = locked_page.get(f"/api/{path}")
        assert answer.status_code == 401
        assert "Bearer" in answer.json()["error"]
    assert locked_page.get("/login").status_code == 200


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1], "ä\x00", "x" * 10_000])
def test_a_wrong_token_opens_nothing(locked_page: TestClient, token: str) -> None:
    answer = locked_page.post("/login", data={"token": token})
    assert answer.headers["location"] == "/login?wrong=1"
    assert "set-cookie" not in answer.headers
    bearer = f"Bearer {token}".encode()
    assert locked_page.get("/api/health", headers={b"authorization": bearer}).status_code == 401


def test_the_token_gives_a_cookie_that_scripts_cannot_read_and_that_opens_the_page(
    locked_page: TestClient,
) -> None:
    answer = locked_page.post("/login", data={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert locked_page.get("/").status_code == 200
    assert locked_page.get("/api/health").status_code == 200
    locked_page.post("/logout")
    assert locked_page.get("/api/health").status_code == 401


def test_a_bearer_token_opens_the_api(locked_page: TestClient) -> None:
    assert locked_page.get("/api/health", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_all_viewers_share_one_snapshot(open_page: TestClient, source: FakeSource) -> None:
    bodies = {open_page.get("/api/overview").content for _ in range(10)}
    assert len(bodies) == 1
    assert [name for name, _ in source.asked].count("store") == 1


def test_the_store_failing_is_said_and_the_rest_goes_on(open_page: TestClient, source: FakeSource) -> None:
    source.fail = True
    overview = open_page.get("/api/overview").json()
    assert "no server" in overview["store"]["error"]
    assert overview["health"]["level"] == "critical"
    assert len(overview["parts"]) == 2
    answer = open_page.get("/api/queries")
    assert answer.status_code == 503
    assert "no server" in answer.json()["error"]
    source.fail = False
    assert open_page.get("/api/queries").status_code == 200


def test_a_report_that_cannot_be_made_is_said(open_page: TestClient) -> None:
    assert open_page.get("/api/overview").json()["report"] == {"at_ms": 0, "error": "no such table"}
    answer = open_page.get("/api/experiment")
    assert answer.status_code == 503
    assert "no such table" in answer.json()["error"]


def test_the_api_passes_on_what_was_asked(open_page: TestClient, source: FakeSource) -> None:
    answer = open_page.get(
        "/api/queries",
        params={
            "arm": "treatment",
            "q": "'; DROP",
            "class": "tail",
            "limit": 5,
            "sort": "ctr",
            "order": "asc",
        },
    )
    assert answer.json()["queries"][0]["query"] == "<img onerror=x>"
    assert answer.headers["content-type"] == "application/json"
    assert source.asked[-1] == (
        "queries",
        {
            "arm": "treatment",
            "search": "'; DROP",
            "traffic_class": "tail",
            "sort": "ctr",
            "ascending": True,
            "limit": 5,
        },
    )
    assert open_page.get("/api/query", params={"query": ""}).json()["pairs"][0]["coec"] == 2.0
    assert open_page.get("/api/pair", params={"query": "a", "item": "b"}).json() == {"events": []}
    assert source.asked[-1] == ("events", {"arm": "", "query": "a", "item_id": "b", "limit": 100})


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/api/queries?arm=other", "arm: expected one of '', 'control', 'treatment', got 'other'"),
        ("/api/queries?class=body", "class: expected one of"),
        ("/api/queries?sort=impressions;--", "sort: expected one of"),
        ("/api/queries?order=up", "order: expected one of"),
        ("/api/queries?limit=0", "limit: expected a whole number from 1 to 500, got '0'"),
        ("/api/queries?limit=501", "limit"),
        ("/api/queries?limit=-1", "limit"),
        ("/api/queries?limit=1e2", "limit"),
        ("/api/queries?limit=%D9%A3", "limit"),
        ("/api/queries?limit=" + "9" * 5000, "limit"),
        ("/api/queries?q=" + "x" * 3000, "q: expected at most 2000 characters, got 3000"),
        ("/api/queries?colour=red", "no parameter 'colour'"),
        ("/api/query", "query: expected, but it is missing"),
        ("/api/pair?query=a", "item: expected, but it is missing"),
        ("/api/dead-letters?limit=many", "limit"),
    ],
)
def test_a_bad_parameter_is_named(open_page: TestClient, source: FakeSource, path: str, names: str) -> None:
    answer = open_page.get(path)
    assert answer.status_code == 400
    assert names in answer.json()["error"]
    assert not source.asked


def test_an_unknown_path_is_an_error_in_json(open_page: TestClient) -> None:
    answer = open_page.get("/api/nothing")
    assert answer.status_code == 404
    assert "error" in answer.json()


def test_the_chart_library_comes_from_here_and_is_kept_for_long(open_page: TestClient) -> None:
    path = f"/static/plotly-{get_plotlyjs_version()}.js"
    assert path in open_page.get("/").text
    answer = open_page.get(path)
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-encoding"] == "gzip"
    assert "plotly.js v" in answer.text[:100]
