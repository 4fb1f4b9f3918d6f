"""The command line without a stack: help, errors in one line, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from ops import heartbeat
from ops.cli import demo, doctor, replay, settings, status
from ops.cli.checks import Level
from ops.cli.context import Context, printable
from ops.cli.main import cli
from ops.experiments.statistics import Effect, Estimate, Interval
from ops.settings import Metrics, Settings

ROOT = Path(__file__).resolve().parents[3]


def relevance(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RELEVANCE_")}
    return subprocess.run(
        [sys.executable, "-m", "ops.cli.main", *arguments],
        cwd=ROOT,
        env=kept | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def all_commands(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            found += all_commands(inner, (*path, name))
    return found


@pytest.mark.parametrize("path", all_commands(cli))
def test_every_command_has_a_help_text(path: tuple[str, ...]) -> None:
    answer = CliRunner().invoke(cli, [*path, "--help"])
    assert answer.exit_code == 0
    assert "Usage:" in answer.output
    groups = {(), ("dead-letters",), ("experiment",), ("teacher",), ("features",), ("students",)}
    assert ("Examples:" in answer.output) == (path not in groups)


def test_a_wrong_setting_is_one_message_without_traceback(tmp_path: Path) -> None:
    answer = relevance("--run-dir", str(tmp_path), "status", RELEVANCE_STREAMS__PARTITION="4")
    assert answer.returncode == 1
    assert answer.stderr.startswith("relevance: wrong settings:")
    assert "RELEVANCE_STREAMS__PARTITION: no such setting" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_no_stack_says_how_to_start_one(tmp_path: Path) -> None:
    answer = relevance("--run-dir", str(tmp_path), "dead-letters", "list")
    assert answer.returncode == 1
    assert "start the local stack with `relevance up`" in answer.stderr
    answer = relevance("--run-dir", str(tmp_path), "down")
    assert answer.returncode == 0
    assert "no stack runs in" in answer.stdout


def test_an_unreachable_broker_is_told(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text("{}\n")
    answer = relevance(
        "--run-dir", str(tmp_path), "replay", str(tmp_path / "events.jsonl"), RELEVANCE_KAFKA="127.0.0.1:1"
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith("relevance: no Kafka answers at 127.0.0.1:1")
    assert len(answer.stderr.splitlines()) == 1


def test_apache_without_jars_says_what_is_missing(tmp_path: Path) -> None:
    answer = relevance(
        "--run-dir", str(tmp_path / "run"), "up", "--broker", "apache", KAFKA_HOME=str(tmp_path)
    )
    assert answer.returncode == 1
    assert "expected kafka-clients-VERSION.jar" in answer.stderr
    assert not list((tmp_path / "run").iterdir())


def test_a_missing_file_is_wrong_usage(tmp_path: Path) -> None:
    answer = relevance("--run-dir", str(tmp_path), "replay", "nothing.jsonl")
    assert answer.returncode == 2
    assert "'nothing.jsonl' does not exist" in answer.stderr


def test_settings_are_all_named_and_secrets_hidden(tmp_path: Path) -> None:
    rows = list(settings.rows(Settings(metrics=Metrics(token=SecretStr("hunter2"))), Settings()))
    by_name = {row.name: row for row in rows}
    assert by_name["metrics.token"].value == "(set)"
    assert by_name["metrics.token"].variable == "RELEVANCE_METRICS__TOKEN"
    assert "streams.click_window_s" in by_name
    assert "hunter2" not in repr(rows)
    hidden = list(settings.rows(Settings(clickhouse="http://me:hunter2@host:8123/db"), Settings()))
    assert "hunter2" not in repr(hidden)


def test_status_without_a_stack_is_json_that_says_so(tmp_path: Path) -> None:
    answer = relevance("--run-dir", str(tmp_path), "status", "--json")
    assert answer.returncode == 1
    found = json.loads(answer.stdout)
    assert found["running"] is False
    assert found["parts"] == []


def test_a_heartbeat_ages() -> None:
    sign = heartbeat.Heartbeat("shop", 1, 100.0, "ready", "", {})
    assert status.part_status(sign, 101.0).health == "ok"
    assert status.part_status(sign, 200.0).health == "silent"
    starting = heartbeat.Heartbeat("shop", 1, 100.0, "starting", "", {})
    assert status.part_status(starting, 101.0).health == "starting"


def test_doctor_finds_what_is_broken(tmp_path: Path) -> None:
    assert doctor.python_check((3, 10)).level == Level.BROKEN
    assert doctor.python_check((3, 12)).level == Level.OK
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\nMemAvailable: 1000 kB\n")
    assert doctor.memory_check(tmp_path / "meminfo").level == Level.NOTE
    assert doctor.disk_check(tmp_path / "not" / "yet").level == Level.OK
    broken = list(doctor.broker_checks(Settings(kafka="127.0.0.1:1"), running=False))
    assert [check.level for check in broken] == [Level.BROKEN]
    silent = list(doctor.part_checks(Settings(run_dir=tmp_path), time.time()))
    assert {check.level for check in silent} == {Level.BROKEN, Level.NOTE}


def test_doctor_exits_with_1_if_something_is_broken(tmp_path: Path) -> None:
    answer = relevance("--run-dir", str(tmp_path), "doctor", RELEVANCE_KAFKA="127.0.0.1:1")
    assert answer.returncode == 1
    assert "BROKEN kafka" in answer.stdout


def test_options_become_settings_of_the_parts(tmp_path: Path) -> None:
    environment = Context(run_dir=tmp_path).environment({"STACK__WORKERS": 3, "STACK__BROKER": None})
    assert environment["RELEVANCE_STACK__WORKERS"] == "3"
    assert environment["RELEVANCE_RUN_DIR"] == str(tmp_path)
    assert "RELEVANCE_STACK__BROKER" not in environment


def test_text_of_strangers_can_not_steer_the_terminal() -> None:
    assert printable("ok \x1b[2J\r\u202e\x00") == "ok \\x1b[2J\\r\\u202e\\x00"


def test_pace_holds_on_the_whole() -> None:
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = replay.paced(10.0, clock=lambda: now[0], sleep=sleep)
    for _ in range(21):
        next(pace)
        now[0] += 0.02
    assert now[0] == pytest.approx(2.02)
    fast = replay.paced(None, clock=lambda: now[0], sleep=sleep)
    count = len(slept)
    for _ in range(100):
        next(fast)
    assert len(slept) == count


def test_demo_knows_when_both_arms_have_intervals() -> None:
    interval = Interval(0.05, 0.15)
    estimate = Estimate(
        absolute=0.005,
        absolute_fixed=interval,
        absolute_interval=interval,
        relative=0.1,
        relative_fixed=interval,
        relative_interval=interval,
        p_value=0.01,
        fixed_p_value=0.01,
        cuped=False,
        variance_reduction=0.0,
    )
    ctr = Effect("ctr", "CTR", 0.05, 0.055, estimate, "")
    unknown = Effect("cvr", "CVR", 0.1, None, None, "not enough data yet")
    assert not demo.has_intervals([ctr, unknown])
    assert demo.has_intervals([ctr, Effect("cvr", "CVR", 0.1, 0.1, estimate, "")])
    line = demo.status_line([ctr, unknown])
    assert line == "CTR 5.00% / 5.50%, +10.0% [+5.0%, +15.0%]   CVR 10.00% / - (not enough data yet)"
