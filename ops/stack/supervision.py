"""supervisord as the one supervisor: its configuration, and its control over a unix socket."""

from __future__ import annotations

import hashlib
import http.client
import os
import shlex
import socket
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ops.stack.plan import Part

#: A unix socket's path has room for 107 bytes, and supervisord binds it under a longer temporary name first.
MAX_SOCKET_PATH = 90
#: A part that ends sooner after its start is restarted with a growing delay of 1, 2, 3... seconds.
SETTLE_S = 10
RPC_TIMEOUT_S = 5.0
MAX_LOG_BYTES = 10_000_000


class SupervisorError(RuntimeError):
    """The supervisor refused a request or does not answer."""


class Process(msgspec.Struct, frozen=True):
    """What supervisord says of a part. `start` and `now` are epoch seconds, `pid` is 0 if it does not run."""

    name: str
    statename: str
    pid: int
    start: int
    now: int
    exitstatus: int
    spawnerr: str
    description: str


def socket_path(run_dir: Path) -> Path:
    """Return where the control socket of `run_dir` lies: in it, or in a private temporary folder."""
    path = run_dir.absolute() / "supervisor" / "control.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(run_dir.absolute())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"relevance-{os.getuid()}-{digest}" / "control.sock"


def make_private_folder(path: Path) -> None:
    """Create `path` for this user alone. Raises SupervisorError if somebody else owns it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise SupervisorError(f"{path} belongs to another user: expected a folder of user {os.getuid()}")
    path.chmod(0o700)


def configuration(run_dir: Path, parts: Sequence[Part]) -> str:
    """Return supervisord's configuration for `parts`, which start and stop in that order."""
    run_dir = run_dir.absolute()
    folder, logs = run_dir / "supervisor", run_dir / "logs"
    lines = [
        "[supervisord]",
        "nodaemon=true",
        "silent=true",
        f"logfile={_escape(logs / 'supervisord.log')}",
        f"logfile_maxbytes={MAX_LOG_BYTES}",
        "logfile_backups=1",
        f"pidfile={_escape(folder / 'supervisord.pid')}",
        f"childlogdir={_escape(logs)}",
        "[unix_http_server]",
        f"file={_escape(socket_path(run_dir))}",
        "chmod=0700",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
    ]
    for priority, part in enumerate(parts, start=1):
        command = shlex.join([sys.executable, "-m", "ops.stack.part", part.name])
        lines += [
            f"[program:{part.name}]",
            f"command={_escape(command)}",
            f"priority={priority}",
            "autostart=false",
            "autorestart=true",
            f"startsecs={SETTLE_S}",
            "startretries=10",
            "stopsignal=TERM",
            f"stopwaitsecs={part.stop_within_s}",
            "killasgroup=true",
            "redirect_stderr=true",
            # supervisord expands this one twice.
            f"stdout_logfile={_escape(_escape(logs / f'{part.name}.log'))}",
            f"stdout_logfile_maxbytes={MAX_LOG_BYTES}",
            "stdout_logfile_backups=2",
        ]
    return "\n".join(lines) + "\n"


def _escape(value: object) -> str:
    text = str(value)
    if "\n" in text or " ;" in text:
        raise SupervisorError(f"expected a path without line breaks and ' ;', got {text!r}")
    return text.replace("%", "%%")


class Supervisor:
    """Remote control of a running supervisord. Every method raises SupervisorError if it does not answer."""

    def __init__(self, path: Path) -> None:
        self._server = xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(path))

    def wait_until_up(self, timeout_s: float) -> None:
        """Return once supervisord answers."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._call("getState")
            except SupervisorError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def processes(self) -> dict[str, Process]:
        """Return the state of every part, by name."""
        answer = msgspec.convert(self._call("getAllProcessInfo"), list[Process])
        return {process.name: process for process in answer}

    def start(self, name: str) -> None:
        """Start a part and return at once."""
        self._call("startProcess", name, False)

    def stop(self, name: str) -> None:
        """Ask a part to end and return at once; supervisord kills it after its `stop_within_s`."""
        self._call("stopProcess", name, False)

    def kill(self, name: str) -> None:
        """Kill a part and what it started; supervisord starts it again."""
        self._call("signalProcess", name, "KILL")

    def shutdown(self) -> None:
        """Ask supervisord to end."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: str | bool) -> Any:
        try:
            return getattr(self._server.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            raise SupervisorError(f"supervisord refused {method}{arguments}: {fault.faultString}") from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise SupervisorError(f"supervisord does not answer {method}{arguments}: {error!r}") from error


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _UnixConnection(self._path)

    def close(self) -> None:
        pass


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=RPC_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(RPC_TIMEOUT_S)
        self.sock.connect(os.fspath(self._path))
