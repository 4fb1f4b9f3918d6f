"""The teacher's paths: what is passed on, what is refused, who may look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from ops.dashboard.app import create_app
from ops.dashboard.teacher_queries import NEWEST, Choices, JudgementRow
from ops.dashboard.teacher_view import Cost, JudgementView, TeacherOverview
from ops.settings import Settings
from tests.ops.dashboard.test_app import LOOPBACK, TOKEN, FakeSource

ONE = {"query": "red kettle", "item": "i", "content": "h", "teacher": "t", "prompt": "p"}


class FakeTeacherSource(FakeSource):
    """Has one judgement in the list, and none to read."""

    def teacher(self) -> TeacherOverview:
        self._answer("teacher", {})
        return TeacherOverview(
            all=None,
            teachers=[],
            cost=Cost(None, None),
            mix=None,
            drift=None,
            refusals=[],
            reports=[],
            choices=Choices([], []),
        )

    def judgements(self, **asked: Any) -> list[JudgementRow]:
        self._answer("judgements", asked)
        return [
            JudgementRow(
                id="18446744073709551615",
                at_ms=1,
                query="<b>",
                item_id="i",
                content_hash="h",
                teacher_id="t",
                prompt_hash="p",
                title="",
                grade="E",
                relevance_score=1.0,
                mismatches=[],
                unlocated=0,
            )
        ]

    def judgement(self, **asked: Any) -> JudgementView | None:
        self._answer("judgement", asked)
        return None


@pytest.fixture
def source() -> FakeTeacherSource:
    return FakeTeacherSource()


@pytest.fixture
def page(source: FakeTeacherSource, tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(Settings.model_validate({"run_dir": tmp_path}), source)
    with TestClient(app, base_url=LOOPBACK, follow_redirects=False) as client:
        yield client


def test_both_pages_name_each_other(page: TestClient) -> None:
    for path, other in (("/", "/teacher"), ("/teacher", "/")):
        text = page.get(path).text
        assert f'<a href="{other}">' in text
        assert f'<a href="{path}" aria-current="page">' in text


def test_the_page_has_no_inline_script_or_style_and_names_no_other_host(page: TestClient) -> None:
    answer = page.get("/teacher")
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "<script>" not in answer.text
    assert "style=" not in answer.text
    assert "<style" not in answer.text
    assert "//" not in answer.text


def test_strangers_get_the_login_form(source: FakeTeacherSource, tmp_path: Path) -> None:
    settings = Settings.model_validate({"run_dir": tmp_path, "metrics": {"host": "0.0.0.0", "token": TOKEN}})
    with TestClient(
        create_app(settings, source), base_url="http://shop.example", follow_redirects=False
    ) as page:
        assert page.get("/teacher").headers["location"] == "/login"
        for path in ("teacher", "judgements", "judgement"):
            assert page.get(f"/api/{path}").status_code == 401
    assert not source.asked


def test_the_list_is_asked_for_what_was_chosen(page: TestClient, source: FakeTeacherSource) -> None:
    chosen: dict[str, str | int] = {
        "q": "'; DROP",
        "grade": "S",
        "mismatch": "colour",
        "teacher": "t",
        "limit": 5,
    }
    answer = page.get(
        "/api/judgements", params=chosen | {"before_ms": 9, "before_id": "18446744073709551615"}
    )
    assert answer.json()["judgements"][0]["query"] == "<b>"
    assert answer.headers["content-type"] == "application/json"
    asked = {"search": "'; DROP", "grade": "S", "mismatch": "colour", "teacher": "t", "limit": 5}
    assert source.asked == [("judgements", asked | {"before": (9, 2**64 - 1)})]
    page.get("/api/judgements")
    assert source.asked[-1][1]["before"] == NEWEST


def test_all_who_look_share_the_figures(page: TestClient, source: FakeTeacherSource) -> None:
    bodies = {page.get("/api/teacher").content for _ in range(5)}
    assert len(bodies) == 1
    assert [name for name, _ in source.asked] == ["teacher"]


def test_figures_that_cannot_be_had_are_said(page: TestClient, source: FakeTeacherSource) -> None:
    source.fail = True
    answer = page.get("/api/teacher")
    assert answer.status_code == 503
    assert "no server at <b>10.0.0.1</b>" in answer.json()["error"]


def test_a_judgement_that_is_not_there_is_said(page: TestClient, source: FakeTeacherSource) -> None:
    answer = page.get("/api/judgement", params=ONE)
    assert answer.status_code == 404
    assert "no such judgement" in answer.json()["error"]
    identity = {
        "content_hash": "h",
        "item_id": "i",
        "prompt_hash": "p",
        "query": "red kettle",
        "teacher_id": "t",
    }
    assert source.asked == [("judgement", identity)]


@pytest.mark.parametrize("missing", ONE)
def test_an_identity_needs_all_its_parts(page: TestClient, source: FakeTeacherSource, missing: str) -> None:
    answer = page.get(
        "/api/judgement", params={name: value for name, value in ONE.items() if name != missing}
    )
    assert answer.status_code == 400
    assert f"{missing}: expected, but it is missing" in answer.json()["error"]
    assert not source.asked


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/api/teacher?x=1", "no parameter 'x'"),
        ("/api/judgements?limit=501", "limit: expected a whole number from 1 to 500, got '501'"),
        ("/api/judgements?limit=0", "limit"),
        ("/api/judgements?before_ms=-1", "before_ms: expected a whole number from 0"),
        ("/api/judgements?before_ms=1e3", "before_ms"),
        ("/api/judgements?before_ms=%D9%A3", "before_ms"),
        ("/api/judgements?before_id=18446744073709551616", "before_id"),
        ("/api/judgements?before_id=" + "9" * 5000, "before_id"),
        ("/api/judgements?q=" + "x" * 3000, "q: expected at most 2000 characters, got 3000"),
        ("/api/judgements?sort=score", "no parameter 'sort'"),
        ("/api/judgement?query=" + "x" * 3000, "query: expected at most 2000 characters"),
    ],
)
def test_a_bad_parameter_is_named(page: TestClient, source: FakeTeacherSource, path: str, names: str) -> None:
    answer = page.get(path)
    assert answer.status_code == 400
    assert names in answer.json()["error"]
    assert not source.asked
