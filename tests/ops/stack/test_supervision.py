"""supervisord's configuration and its control socket."""

from __future__ import annotations

import configparser
import socket
import threading
from pathlib import Path

import pytest

from ops.settings import Settings, Stack
from ops.stack import plan, supervision
from ops.stack.supervision import Supervisor, SupervisorError


def read(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(" ;",))
    parser.read_string(text)
    return parser


def test_every_part_is_a_program_in_the_order_of_starting(tmp_path: Path) -> None:
    parts = plan.parts(Settings(stack=Stack(workers=2)))
    parser = read(supervision.configuration(tmp_path, parts))
    programs = [name for name in parser.sections() if name.startswith("program:")]
    assert programs == [
        f"program:{n}" for n in ("broker", "streams-1", "streams-2", "metrics", "features", "shop")
    ]
    priorities = [parser.getint(name, "priority") for name in programs]
    assert priorities == sorted(priorities)
    assert all(parser.get(name, "autorestart") == "true" for name in programs)
    assert parser.get("program:shop", "command").endswith("-m ops.stack.part shop")


def test_percent_signs_are_no_expansions(tmp_path: Path) -> None:
    parts = plan.parts(Settings())
    parser = read(supervision.configuration(tmp_path / "100%s", parts))
    assert parser.get("supervisord", "logfile") == str(tmp_path / "100%%s" / "logs" / "supervisord.log")


@pytest.mark.parametrize("name", ["a\nb", "a ;b"])
def test_a_path_that_would_break_the_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SupervisorError, match="expected a path without"):
        supervision.configuration(tmp_path / name, [])


def test_deep_run_directories_get_a_short_private_socket(tmp_path: Path) -> None:
    assert supervision.socket_path(Path("/run/r")) == Path("/run/r/supervisor/control.sock")
    deep = tmp_path / ("d" * 120)
    path = supervision.socket_path(deep)
    assert len(str(path)) <= supervision.MAX_SOCKET_PATH
    assert path == supervision.socket_path(deep)
    assert path != supervision.socket_path(tmp_path / ("e" * 120))


def test_private_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o755)
    supervision.make_private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_no_supervisor_is_an_error_of_its_own_kind(tmp_path: Path) -> None:
    with pytest.raises(SupervisorError, match="does not answer getState"):
        Supervisor(tmp_path / "control.sock").wait_until_up(0.0)


def test_a_silent_supervisor_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "RPC_TIMEOUT_S", 0.2)
    before = set(threading.enumerate())
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        with pytest.raises(SupervisorError, match="does not answer getAllProcessInfo"):
            Supervisor(path).processes()
    assert set(threading.enumerate()) <= before
