"""Opening ClickHouse and bringing its schema up to date, on both engines."""

from __future__ import annotations

import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from ops.clickhouse.client import ClickHouseUnavailableError, open_client
from ops.clickhouse.inserting import Inserter, RowsRefusedError
from ops.clickhouse.migrate import MIGRATIONS, MigrationError, migrate, read_migrations
from ops.settings import Metrics, Settings
from streams.rows import TABLES
from tests.integration.clickhouse_engines import Engine
from tests.integration.clickhouse_server import PASSWORD, ROOT, ClickHouseServer

pytest_plugins = ["tests.integration.clickhouse_engines"]
pytestmark = pytest.mark.integration


def test_migrations_run_once_each_and_make_every_table(engine: Engine) -> None:
    client = engine.open()
    assert [migration.name for migration in migrate(client)] == [each.name for each in read_migrations()]
    assert migrate(client) == []
    tables = {str(name) for (name,) in client.query("SHOW TABLES").result_rows}
    assert set(TABLES) <= tables
    versions = client.query("SELECT version FROM schema_versions FINAL ORDER BY version").result_rows
    assert list(versions) == [(number,) for number in range(1, len(read_migrations()) + 1)]


def test_only_what_is_new_runs_on_an_older_database(engine: Engine, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MIGRATIONS, tmp_path / "migrations"))
    client = engine.open()
    migrate(client, folder)
    number = len(read_migrations()) + 1
    (folder / f"{number:04d}_more.sql").write_text(
        "CREATE TABLE IF NOT EXISTS more (a Int8) ENGINE = Memory; -- x;"
    )
    assert [migration.version for migration in migrate(client, folder)] == [number]
    assert client.command("SELECT count() FROM more") == 0


def test_a_newer_database_is_refused(engine: Engine) -> None:
    client = engine.open()
    migrate(client)
    client.insert(
        "schema_versions", [[99, "0099_future", "abc"]], column_names=["version", "name", "checksum"]
    )
    with pytest.raises(MigrationError, match="0099_future, newer than this program"):
        migrate(client)


def test_a_changed_migration_is_refused_before_anything_runs(engine: Engine, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MIGRATIONS, tmp_path / "migrations"))
    client = engine.open()
    migrate(client, folder)
    path = folder / "0001_events.sql"
    path.write_text(path.read_text().replace("position UInt16", "position UInt32"))
    (folder / f"{len(read_migrations()) + 1:04d}_more.sql").write_text(
        "CREATE TABLE more (a Int8) ENGINE = Memory"
    )
    with pytest.raises(MigrationError, match="0001_events was applied as 0001_events with other statements"):
        migrate(client, folder)
    assert client.command("EXISTS TABLE more") == 0


def test_a_migration_cut_short_is_finished_by_the_next_run(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "0001_two.sql").write_text(
        "CREATE TABLE IF NOT EXISTS a (x Int8) ENGINE = Memory; CREATE TABLE b;"
    )
    client = engine.open()
    with pytest.raises(DatabaseError, match="Code: "):
        migrate(client, tmp_path)
    (tmp_path / "0001_two.sql").write_text(
        "CREATE TABLE IF NOT EXISTS a (x Int8) ENGINE = Memory;"
        "CREATE TABLE IF NOT EXISTS b (x Int8) ENGINE = Memory;"
    )
    assert len(migrate(client, tmp_path)) == 1
    assert client.command("EXISTS TABLE b") == 1


@pytest.fixture
def times(engine: Engine) -> Client:
    client = engine.open()
    client.command(
        "CREATE TABLE times (id UInt32, at DateTime64(3, 'UTC'), note Nullable(String), made DateTime DEFAULT now())"
        " ENGINE = MergeTree ORDER BY id"
    )
    return client


def test_times_are_milliseconds_or_rfc_3339(times: Client) -> None:
    lines = (
        b'{"id":1,"at":1700000000123,"note":null}\n{"id":2,"at":999,"note":"x"}\n{"id":3,"at":-1,"note":"x"}\n'
        b'{"id":4,"at":"2023-11-14T22:13:20.123Z","note":"x"}\n'
        b'{"id":5,"at":"2023-11-14T22:13:20.123456+00:00","note":"x"}\n'
    )
    Inserter(times).insert("times", lines, origin="t:0:0-0")
    rows = times.query("SELECT id, toUnixTimestamp64Milli(at) FROM times ORDER BY id").result_rows
    assert list(rows) == [
        (1, 1_700_000_000_123),
        (2, 999),
        (3, -1),
        (4, 1_700_000_000_123),
        (5, 1_700_000_000_123),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b'{"id":1,"note":null}',
        b'{"id":1,"at":null,"note":null}',
        b'{"id":-1,"at":1,"note":null}',
        b'{"id":1,"at":1,"note":null,"more":1}',
        b'{"id":1,"at":1,"note":null,"made":1}',
        b'{"id":1,"at":"yesterday","note":null}',
        b'{"id":"x' + "é".encode() * 500 + b'","at":1,"note":null}',
        b'{"id":1,"at":1,"note":"\xff\\u12"}',
        b'{"\xff\xfe":1}',
        b"\xff\xfe\xfd",
        b'{"id":1,"at":1,"note":"open',
        b'{"id":1,"at":1,"note":' + b"[" * 100_000,
        b"null",
    ],
)
def test_a_row_that_does_not_fit_is_refused_and_nothing_of_its_batch_is_in(
    times: Client, line: bytes
) -> None:
    good = b'{"id":7,"at":1,"note":null}\n'
    with pytest.raises(RowsRefusedError) as info:
        Inserter(times).insert("times", good + line + b"\n" + good, origin="t:0:0-0")
    assert 0 < len(str(info.value)) <= 500
    assert times.command("SELECT count() FROM times") == 0


def test_rows_of_four_hundred_years_fit_in_one_batch(engine: Engine) -> None:
    client = engine.open()
    migrate(client)
    row = (
        b'{"event_id":"%s","action_name":"a","query_id":"q","item_id":"i","application":"a","client_id":"c",'
    )
    row += b'"session_id":"s","event_time":"%d-01-01T00:00:00Z","version":1}\n'
    lines = b"".join(row % (b"00000000-0000-0000-0000-%012d" % year, year) for year in range(1900, 2299))
    Inserter(client).insert("interactions", lines, origin="t:0:0-0")
    assert client.command("SELECT count() FROM interactions FINAL") == 399


def test_the_same_insert_twice_is_one(times: Client) -> None:
    times.command("ALTER TABLE times MODIFY SETTING non_replicated_deduplication_window = 100")
    inserter = Inserter(times)
    for origin, lines in [("t:0:0-4", b"1"), ("t:0:0-4", b"1"), ("t:0:0-4", b"2"), ("t:0:5-9", b"1")]:
        inserter.insert("times", b'{"id":%s,"at":1,"note":null}\n' % lines, origin=origin)
    assert list(times.query("SELECT id, count() FROM times GROUP BY id ORDER BY id").result_rows) == [
        (1, 2),
        (2, 1),
    ]


HOLD = """
import sys, time
from pathlib import Path
from ops.clickhouse.client import open_client
from ops.settings import Settings
client = open_client(Settings(), path=Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_told_who_has_the_embedded_engine(tmp_path: Path) -> None:
    folder = tmp_path / "clickhouse"
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(
                ClickHouseUnavailableError, match=rf"in use by process {holder.pid}.*relevance status"
            ):
                open_client(Settings(), path=folder)
        finally:
            holder.kill()
    # A killed holder leaves no lock behind.
    with open_client(Settings(), path=folder) as client:
        assert client.command("SELECT 1") == 1


def test_a_wrong_password_is_named_and_not_shown(clickhouse_server: ClickHouseServer) -> None:
    with pytest.raises(ClickHouseUnavailableError, match="wrong password for user 'relevance'") as info:
        open_client(Settings(clickhouse=clickhouse_server.url(password="not-the-one")))
    assert "not-the-one" not in str(info.value)


def test_a_password_with_every_sign_of_a_url_works(clickhouse_server: ClickHouseServer) -> None:
    assert set("@: /?#%") <= set(PASSWORD)
    with open_client(Settings(clickhouse=clickhouse_server.url())) as client:
        assert client.command("SELECT currentUser()") == "relevance"


def test_an_unknown_database_is_named(clickhouse_server: ClickHouseServer) -> None:
    with pytest.raises(ClickHouseUnavailableError, match="no database 'nowhere': create it"):
        open_client(Settings(clickhouse=clickhouse_server.url(database="nowhere")))


class TlsFront(socketserver.BaseRequestHandler):
    """Takes TLS off a connection and hands its bytes to `port`, as a load balancer does."""

    port: int
    context: ssl.SSLContext

    def handle(self) -> None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)) as inner:
            outer = self.context.wrap_socket(self.request, server_side=True)
            answers = threading.Thread(target=self.copy, args=(inner, outer), daemon=True)
            answers.start()
            self.copy(outer, inner)

    def copy(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                target.sendall(content)


@pytest.fixture
def secure_url(clickhouse_server: ClickHouseServer, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The server's address behind TLS with a certificate of its own, and the certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the test's certificate, is not installed")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    handler = type("Handler", (TlsFront,), {"port": clickhouse_server.port, "context": context})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as front:
        front.daemon_threads = True
        threading.Thread(target=front.serve_forever, daemon=True).start()
        url = clickhouse_server.url().replace("http:", "https:")
        yield url.replace(f":{clickhouse_server.port}/", f":{front.server_address[1]}/"), certificate
        front.shutdown()


def test_tls_trusts_the_given_authority_alone(secure_url: tuple[str, Path]) -> None:
    url, certificate = secure_url
    trusting = Settings(clickhouse=url, metrics=Metrics(clickhouse_ca_file=certificate))
    with open_client(trusting) as client:
        assert client.command("SELECT currentUser()") == "relevance"
    with pytest.raises(ClickHouseUnavailableError, match=r"(?i)certificate verify failed"):
        open_client(Settings(clickhouse=url))
