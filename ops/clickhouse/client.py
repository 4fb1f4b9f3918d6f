"""Clients for ClickHouse: the engine inside this process, or any server over HTTP, by one setting.

One process at a time can hold the embedded engine, so in the local stack only `metrics` does. An embedded
client has a lock of its own and runs one query at a time; clients of one process share the engine and its
data. So the sink and the page each open their own, and a long query of the page does not hold up an insert.
Either kind of client may be used from several threads.
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from ops.settings import Settings

FOLDER = "clickhouse"
CONNECT_TIMEOUT_S = 5
#: Longer than an insert or a query of the page should take, shorter than a heartbeat may be old.
ANSWER_TIMEOUT_S = 30

AUTHENTICATION_FAILED = 516
UNKNOWN_DATABASE = 81


class ClickHouseUnavailableError(RuntimeError):
    """ClickHouse can't be opened. The message says why and what to do, and never holds a password."""


def open_client(settings: Settings, *, path: Path | None = None) -> Client:
    """Open a client of the server that `settings.clickhouse` names, or of the embedded engine.

    `path` is the embedded engine's folder, by default `clickhouse` in the run directory. Raises
    ClickHouseUnavailableError if another process holds the folder, or the server can't be reached or refuses.
    """
    if settings.clickhouse:
        return _open_server(settings)
    return _open_embedded(path or settings.run_dir / FOLDER)


def _open_embedded(path: Path) -> Client:
    if "?" in str(path):
        raise ClickHouseUnavailableError(
            f"the embedded ClickHouse can't live in {path}: no '?' in the path, please"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        return clickhouse_connect.get_client(interface="chdb", path=str(path))
    except (ClickHouseError, OSError) as error:
        holder = _holder(path)
        if holder:
            raise ClickHouseUnavailableError(
                f"{path} is in use by {holder}, and the embedded ClickHouse serves one process at a time:"
                " look at the running stack with `relevance status` or on its dashboard, stop it with Ctrl-C,"
                " or set RELEVANCE_CLICKHOUSE=http(s)://user:password@host:port/database to a server"
            ) from error
        raise ClickHouseUnavailableError(
            f"the embedded ClickHouse can't be opened at {path}: {_first_line(error)}"
        ) from error


def _holder(path: Path) -> str:
    """Return who has the engine's lock on the folder, in words, or an empty string if nobody has."""
    status = path / "status"
    try:
        with status.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                first = file.readline(80).decode(errors="replace").strip()
                return (
                    f"process {first.removeprefix('PID: ')}"
                    if first.startswith("PID: ")
                    else "another process"
                )
    except OSError:
        return ""
    return ""


def _open_server(settings: Settings) -> Client:
    options = _server_options(settings)
    shown = f"{options['interface']}://{options['host']}:{options['port']}"
    try:
        return clickhouse_connect.get_client(**options)
    except DatabaseError as error:
        if error.code == AUTHENTICATION_FAILED:
            reason = f"wrong password for user {options['username']!r}, or there is no such user; mend"
        elif error.code == UNKNOWN_DATABASE:
            reason = f"no database {options['database']!r}: create it, or name another in"
        elif error.code is None:
            reason = f"no answer ({failure_reason(error)}): start the server, or mend host, port or TLS in"
        else:
            reason = f"refused ({_first_line(error)}): see"
        raise ClickHouseUnavailableError(f"ClickHouse at {shown}: {reason} RELEVANCE_CLICKHOUSE") from None
    except (ClickHouseError, OSError) as error:
        raise ClickHouseUnavailableError(f"ClickHouse at {shown}: {_first_line(error)}") from None


def _server_options(settings: Settings) -> dict[str, Any]:
    """Return clickhouse-connect's arguments. Raises ClickHouseUnavailableError for a malformed address."""
    # The address itself is not repeated in the message: it may hold a password.
    malformed = ClickHouseUnavailableError(
        "RELEVANCE_CLICKHOUSE: expected http(s)://user:password@host:port/database, with @ : / ? # % in user"
        " and password written as %40 %3A %2F %3F %23 %25"
    )
    try:
        url = urlsplit(settings.clickhouse)
        host, port = url.hostname, url.port
    except ValueError:
        raise malformed from None
    path = url.path.strip("/")
    if not host or url.query or url.fragment or "/" in path:
        raise malformed
    options: dict[str, Any] = {
        "interface": url.scheme,
        "host": host,
        "port": port or (8443 if url.scheme == "https" else 8123),
        "username": unquote(url.username or "default"),
        "password": unquote(url.password or ""),
        "database": unquote(path) or "default",
        "connect_timeout": CONNECT_TIMEOUT_S,
        "send_receive_timeout": ANSWER_TIMEOUT_S,
        # A session would refuse a second query at the same time.
        "autogenerate_session_id": False,
    }
    if settings.metrics.clickhouse_ca_file:
        options["ca_cert"] = str(settings.metrics.clickhouse_ca_file)
    return options


def failure_reason(error: BaseException) -> str:
    """Return why a connection failed, in one line and without the request's address."""
    while error.__cause__ is not None:
        error = error.__cause__
    reason = getattr(error, "reason", None)
    return _first_line(reason if isinstance(reason, BaseException) else error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
