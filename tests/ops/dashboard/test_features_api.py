"""The feature store's paths: what is passed on, what is refused, who may look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from ops.dashboard.app import create_app
from ops.dashboard.feature_queries import MAX_SEARCHES, ReadsLately
from ops.dashboard.source import FeaturesOverview, LoggedReads
from ops.settings import Settings
from tests.ops.dashboard.test_app import LOOPBACK, TOKEN, FakeSource


class FakeFeaturesSource(FakeSource):
    """A store that nobody has read."""

    def features(self) -> FeaturesOverview:
        self._answer("features", {})
        reads = ReadsLately(
            searches=0, reads=0, unanswered=0, known=0, age_p50_ms=None, age_p99_ms=None, minutes=[]
        )
        return FeaturesOverview(part=None, shop=None, lag=None, reads=reads, audits=[])

    def feature_reads(self, **asked: Any) -> LoggedReads:
        self._answer("feature_reads", asked)
        return LoggedReads(7, [])


@pytest.fixture
def source() -> FakeFeaturesSource:
    return FakeFeaturesSource()


@pytest.fixture
def page(source: FakeFeaturesSource, tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(Settings.model_validate({"run_dir": tmp_path}), source)
    with TestClient(app, base_url=LOOPBACK, follow_redirects=False) as client:
        yield client


def test_all_pages_name_each_other(page: TestClient) -> None:
    for path in ("/", "/teacher", "/features"):
        text = page.get(path).text
        assert f'<a href="{path}" aria-current="page">' in text
        for other in {"/", "/teacher", "/features"} - {path}:
            assert f'<a href="{other}">' in text


def test_the_page_has_no_inline_script_or_style_and_names_no_other_host(page: TestClient) -> None:
    answer = page.get("/features")
    assert "unsafe" not in answer.headers["content-security-policy"]
    for unwanted in ("<script>", "style=", "<style", "//"):
        assert unwanted not in answer.text


def test_strangers_get_the_login_form(source: FakeFeaturesSource, tmp_path: Path) -> None:
    settings = Settings.model_validate({"run_dir": tmp_path, "metrics": {"host": "0.0.0.0", "token": TOKEN}})
    app = create_app(settings, source)
    with TestClient(app, base_url="http://shop.example", follow_redirects=False) as page:
        assert page.get("/features").headers["location"] == "/login"
        for path in ("features", "feature-reads"):
            assert page.get(f"/api/{path}").status_code == 401
    assert not source.asked


def test_the_overview_is_computed_once_for_all(page: TestClient, source: FakeFeaturesSource) -> None:
    for _ in range(3):
        answer = page.get("/api/features").json()
    assert answer["value"]["reads"]["age_p50_ms"] is None
    assert source.asked.count(("features", {})) == 1


def test_without_a_store_the_overview_says_so(page: TestClient, source: FakeFeaturesSource) -> None:
    source.fail = True
    answer = page.get("/api/features")
    assert answer.status_code == 503
    assert "no server" in answer.json()["error"]


def test_logged_reads_are_asked_for_what_was_chosen(page: TestClient, source: FakeFeaturesSource) -> None:
    largest = 2**64 - 1
    answer = page.get(f"/api/feature-reads?first_ms=1&last_ms=2&seed=3&after={largest}&limit=4").json()
    assert answer == {"total": 7, "searches": []}
    assert source.asked[-1] == (
        "feature_reads",
        {"first_ms": 1, "last_ms": 2, "seed": 3, "after": largest, "limit": 4},
    )


@pytest.mark.parametrize(
    "given",
    ["limit=0", f"limit={MAX_SEARCHES + 1}", "seed=-1", f"after={2**64}", "first_ms=1.5", "last_ms=x", "q=1"],
)
def test_what_is_not_understood_is_refused(page: TestClient, source: FakeFeaturesSource, given: str) -> None:
    answer = page.get(f"/api/feature-reads?{given}")
    assert answer.status_code == 400
    assert given.split("=", maxsplit=1)[0] in answer.json()["error"]
    assert not source.asked
