"""The loop's and a pair's paths: what is passed on, what is refused, who may look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from ops.dashboard.app import create_app
from ops.dashboard.freshness import freshness
from ops.dashboard.loop_queries import CostOverTime, TeacherCost
from ops.dashboard.loop_view import LoopOverview
from ops.dashboard.pair_queries import PairFound
from ops.dashboard.pair_view import PairView, StudentView
from ops.dashboard.sampling_queries import SampledOverTime, SampledRow
from ops.dashboard.teacher_queries import NEWEST
from ops.settings import Settings
from tests.ops.dashboard.test_app import LOOPBACK, TOKEN, FakeSource

PATHS = ("loop", "sampled", "pairs", "why", "student")


class FakeLoopSource(FakeSource):
    """A loop in which nothing has happened, and one hostile pair in the lists."""

    def loop(self) -> LoopOverview:
        self._answer("loop", {})
        return LoopOverview(
            versions=[],
            kept_back=[],
            alerts=[],
            updates={"passed": 0, "kept": 0, "doubted": 0, "halted": 0},
            freshness=freshness([], []),
            groups=[],
            terms=[],
            sampled=SampledOverTime(60_000, [], {}),
            cost=TeacherCost(
                judgements=0,
                prompt_tokens=0,
                cached_tokens=0,
                completion_tokens=0,
                refusals=0,
                hour_judgements=0,
                hour_tokens=0,
                hour_refusals=0,
                last_ms=0,
            ),
            cost_over_time=CostOverTime(60_000, []),
            tokens_per_hour=1e6,
            usd_total=None,
            parts=[],
            lag=[],
        )

    def sampled(self, **asked: Any) -> list[SampledRow]:
        self._answer("sampled", asked)
        return []

    def pairs_with(self, **asked: Any) -> list[PairFound]:
        self._answer("pairs_with", asked)
        return [
            PairFound(
                query="<b>",
                item_id="i",
                title="",
                grade="",
                relevance_score=None,
                judged=False,
                sampled=False,
                impressions=1,
                clicks=0,
                last_ms=1,
            )
        ]

    def why(self, **asked: Any) -> PairView | None:
        self._answer("why", asked)
        return None

    def student(self, **asked: Any) -> StudentView:
        self._answer("student", asked)
        return StudentView(away="no Triton")


@pytest.fixture
def source() -> FakeLoopSource:
    return FakeLoopSource()


@pytest.fixture
def page(source: FakeLoopSource, tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(Settings.model_validate({"run_dir": tmp_path}), source)
    with TestClient(app, base_url=LOOPBACK, follow_redirects=False) as client:
        yield client


def test_strangers_get_the_login_form(source: FakeLoopSource, tmp_path: Path) -> None:
    settings = Settings.model_validate({"run_dir": tmp_path, "metrics": {"host": "0.0.0.0", "token": TOKEN}})
    app = create_app(settings, source)
    with TestClient(app, base_url="http://shop.example", follow_redirects=False) as page:
        for path in ("/loop", "/why"):
            assert page.get(path).headers["location"] == "/login"
        for path in PATHS:
            assert page.get(f"/api/{path}").status_code == 401
    assert not source.asked


def test_all_who_look_share_the_overview(page: TestClient, source: FakeLoopSource) -> None:
    answers = [page.get("/api/loop").json() for _ in range(3)]
    assert answers[0]["value"]["freshness"]["p50_s"] is None
    assert [name for name, _ in source.asked] == ["loop"]


def test_without_a_store_each_path_says_so(page: TestClient, source: FakeLoopSource) -> None:
    source.fail = True
    for path in ("loop", "sampled", "pairs", "why?query=a&item=b", "student?query=a&item=b"):
        answer = page.get(f"/api/{path}")
        assert answer.status_code == 503
        assert "no server at <b>10.0.0.1</b>" in answer.json()["error"]


def test_sampled_pairs_are_asked_for_what_was_chosen(page: TestClient, source: FakeLoopSource) -> None:
    chosen = {"q": "'; DROP", "class": "tail", "lane": "uniform", "state": "waiting", "limit": "5"}
    page.get("/api/sampled", params=chosen | {"before_ms": "9", "before_id": "18446744073709551615"})
    asked = {"search": "'; DROP", "traffic_class": "tail", "lane": "uniform", "state": "waiting", "limit": 5}
    assert source.asked == [("sampled", asked | {"before": (9, 2**64 - 1)})]
    page.get("/api/sampled")
    assert source.asked[-1][1]["before"] == NEWEST


def test_pairs_are_looked_for_by_words(page: TestClient, source: FakeLoopSource) -> None:
    answer = page.get("/api/pairs", params={"q": "red %_' mug", "limit": 7})
    assert answer.json()["pairs"][0]["query"] == "<b>"
    assert source.asked == [("pairs_with", {"words": "red %_' mug", "limit": 7})]


def test_a_pair_that_nobody_has_heard_of_is_said(page: TestClient, source: FakeLoopSource) -> None:
    answer = page.get("/api/why", params={"query": "q", "item": "i"})
    assert answer.status_code == 404
    assert "never shown, sampled or judged" in answer.json()["error"]
    assert source.asked == [("why", {"query": "q", "item_id": "i"})]


def test_a_student_that_is_away_is_an_answer(page: TestClient, source: FakeLoopSource) -> None:
    answer = page.get("/api/student", params={"query": "q", "item": "i", "version": "12"})
    assert (answer.status_code, answer.json()["away"]) == (200, "no Triton")
    assert source.asked == [("student", {"query": "q", "item_id": "i", "version": 12})]


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/api/loop?x=1", "no parameter 'x'"),
        ("/api/sampled?class=heads", "class: expected one of '', 'head'"),
        ("/api/sampled?lane=slow", "lane: expected one of '', 'priority', 'uniform'"),
        ("/api/sampled?state=gone", "state: expected one of"),
        ("/api/sampled?before_ms=-1", "before_ms: expected a whole number"),
        ("/api/sampled?before_id=" + "9" * 5000, "before_id"),
        ("/api/sampled?limit=501", "limit: expected a whole number from 1 to 500"),
        ("/api/sampled?q=" + "x" * 3000, "q: expected at most 2000 characters, got 3000"),
        ("/api/pairs?limit=0", "limit"),
        ("/api/pairs?words=x", "no parameter 'words'"),
        ("/api/pairs?q=" + "x" * 3000, "q: expected at most 2000 characters"),
        ("/api/why?query=a", "item: expected, but it is missing"),
        ("/api/why?item=a", "query: expected, but it is missing"),
        ("/api/why?query=a&item=" + "x" * 3000, "item: expected at most 2000 characters"),
        ("/api/student?query=a", "item: expected, but it is missing"),
        ("/api/student?query=a&item=b&version=-1", "version: expected a whole number"),
        ("/api/student?query=a&item=b&version=1e3", "version"),
        ("/api/student?query=a&item=b&version=" + "9" * 40, "version"),
    ],
)
def test_a_bad_parameter_is_named(page: TestClient, source: FakeLoopSource, path: str, names: str) -> None:
    answer = page.get(path)
    assert answer.status_code == 400
    assert names in answer.json()["error"]
    assert not source.asked
