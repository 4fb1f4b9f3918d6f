"""The schema: numbered SQL files, applied once each and in order, recorded in the table `schema_versions`.

A file is applied statement by statement and recorded when all of it has run, so its statements must bear
being run twice (`IF NOT EXISTS`): ClickHouse has no transaction around them. An applied file never changes
again, comments aside; what comes later goes into a new file.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from clickhouse_connect.driver.client import Client

MIGRATIONS = Path(__file__).with_name("migrations")

_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<quoted>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`)|;|[^;]""",
    re.DOTALL,
)
_CREATE_VERSIONS = """
CREATE TABLE IF NOT EXISTS schema_versions
(
    version UInt32,
    name String,
    checksum String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY version
"""


class MigrationError(RuntimeError):
    """The database and the code do not fit together; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: `version` counts from 1, `checksum` is the SHA-256 of its statements, in hexadecimal."""

    version: int
    name: str
    statements: tuple[str, ...]
    checksum: str


def split_statements(sql: str) -> tuple[str, ...]:
    """Split SQL at its semicolons and drop comments; quoted text is left alone.

    >>> split_statements("SELECT ';' -- one; not two\\n; SELECT 2;")
    ("SELECT ';'", 'SELECT 2')
    """
    statements: list[str] = []
    current: list[str] = []
    for token in _TOKEN.finditer(sql):
        if token.group() == ";":
            statements.append("".join(current).strip())
            current = []
        else:
            current.append(" " if token["comment"] else token.group())
    statements.append("".join(current).strip())
    return tuple(statement for statement in statements if statement)


def read_migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """Return the folder's migrations in order. Raises MigrationError unless they are numbered 1, 2, 3, ..."""
    migrations = []
    for number, path in enumerate(sorted(folder.glob("*.sql")), start=1):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None or int(match[1]) != number:
            raise MigrationError(f"expected a migration {number:04d}_name.sql in {folder}, got {path.name}")
        statements = split_statements(path.read_text(encoding="utf-8"))
        checksum = hashlib.sha256("\n;\n".join(statements).encode()).hexdigest()
        migrations.append(Migration(number, path.stem, statements, checksum))
    if not migrations:
        raise MigrationError(f"expected migrations in {folder}, found none: is the installation complete?")
    return migrations


def migrate(client: Client, folder: Path = MIGRATIONS) -> list[Migration]:
    """Bring the client's database up to date and return what was applied, in order.

    Raises MigrationError if the database has seen a migration that the code does not have (it is newer than
    the code), or one whose statements have changed since.
    """
    migrations = read_migrations(folder)
    client.command(_CREATE_VERSIONS)
    applied = {
        int(version): (str(name), str(checksum))
        for version, name, checksum in client.query(
            "SELECT version, name, checksum FROM schema_versions FINAL ORDER BY version"
        ).result_rows
    }
    _check(applied, migrations)
    missing = [migration for migration in migrations if migration.version not in applied]
    for migration in missing:
        for statement in migration.statements:
            client.command(statement)
        client.insert(
            "schema_versions",
            [[migration.version, migration.name, migration.checksum]],
            column_names=["version", "name", "checksum"],
        )
    return missing


def _check(applied: dict[int, tuple[str, str]], migrations: list[Migration]) -> None:
    known = {migration.version: migration for migration in migrations}
    for version, (name, checksum) in applied.items():
        migration = known.get(version)
        if migration is None:
            raise MigrationError(
                f"the database has migration {name}, newer than this program, which ends at"
                f" {migrations[-1].name}: update the program, or point RELEVANCE_CLICKHOUSE or"
                " RELEVANCE_RUN_DIR elsewhere"
            )
        if migration.checksum != checksum:
            raise MigrationError(
                f"migration {migration.name} was applied as {name} with other statements (checksum was"
                f" {checksum[:12]}, is {migration.checksum[:12]}): put the file back, write a new migration"
            )
