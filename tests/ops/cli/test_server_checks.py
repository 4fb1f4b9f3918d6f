"""What doctor and status say of the two servers."""

from __future__ import annotations

import time
from pathlib import Path

from ops import endpoints, heartbeat
from ops.cli import doctor, status
from ops.cli.checks import Check, Level
from ops.cli.server_checks import server_checks
from ops.endpoints import Endpoints
from ops.settings import Settings, Stack, TeacherServer, TritonServer

BOTH = Stack(triton=True, teacher_server=True)


def levels(checks: list[Check]) -> list[tuple[str, Level]]:
    return [(check.name, check.level) for check in checks]


def test_servers_that_nobody_asks_for_are_not_checked(tmp_path: Path) -> None:
    assert list(server_checks(Settings(run_dir=tmp_path), running=True)) == []


def test_before_the_stack_runs_what_it_would_make_is_a_note(tmp_path: Path) -> None:
    nothing = Settings(
        run_dir=tmp_path,
        stack=BOTH,
        triton_server=TritonServer(environment=tmp_path / "serving"),
        teacher_server=TeacherServer(environment=tmp_path / "teacher"),
    )
    found = list(server_checks(nothing, running=False))
    assert levels(found) == [("triton", Level.NOTE), ("teacher server", Level.NOTE)]
    python = tmp_path / "serving" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert levels(list(server_checks(nothing, running=False)))[0] == ("triton", Level.OK)


def test_a_triton_that_is_away_is_broken_and_a_teacher_that_starts_is_not(tmp_path: Path) -> None:
    found = list(server_checks(Settings(run_dir=tmp_path, stack=BOTH), running=True))
    assert levels(found) == [("triton", Level.BROKEN), ("teacher server", Level.NOTE)]


def test_addresses_that_give_no_answer_are_broken(tmp_path: Path) -> None:
    elsewhere = Settings(
        run_dir=tmp_path, stack=BOTH, triton="127.0.0.1:1", teacher_url="http://127.0.0.1:1/v1"
    )
    found = list(server_checks(elsewhere, running=False))
    assert levels(found) == [("triton", Level.BROKEN), ("teacher server", Level.BROKEN)]


def test_a_part_that_nobody_waits_for_may_be_starting(tmp_path: Path) -> None:
    now_s = time.time()
    for part in ("triton", "teacher-server"):
        heartbeat.beat(tmp_path, heartbeat.Heartbeat(part, 1, now_s, "starting", "", {}))
    found = doctor.part_checks(Settings(run_dir=tmp_path, stack=BOTH), now_s)
    level = {check.name: check.level for check in found}
    assert level["part triton"] == Level.BROKEN
    assert level["part teacher-server"] == Level.NOTE


def test_status_says_where_the_servers_listen(tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path)
    found = status.collect(settings)
    assert (found.triton, found.teacher) == ("", "")
    endpoints.write(
        tmp_path, Endpoints(kafka="k:1", dashboard="http://d", triton="t:2", teacher="http://v/v1")
    )
    found = status.collect(settings)
    assert (found.triton, found.teacher) == ("t:2", "http://v/v1")
    assert status.collect(settings.model_copy(update={"triton": "other:3"})).triton == "other:3"
