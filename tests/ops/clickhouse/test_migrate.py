"""The splitting and checking of migrations; applying them is tested against the engines."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.clickhouse.migrate import MIGRATIONS, MigrationError, read_migrations, split_statements
from streams.rows import TABLES


def test_semicolons_in_quotes_and_comments_do_not_split() -> None:
    sql = "-- a; b\nSELECT 'it''s; \\' ;', `odd;name`, \"x;\" /* ; */ FROM t;\n\n;SELECT 2 -- end;"
    assert split_statements(sql) == ("SELECT 'it''s; \\' ;', `odd;name`, \"x;\"   FROM t", "SELECT 2")


@given(st.lists(st.text(st.characters(exclude_characters=";'\"`-/\\"), min_size=1).filter(str.strip)))
def test_plain_statements_come_back_as_they_were(statements: list[str]) -> None:
    assert split_statements(";".join(statements)) == tuple(statement.strip() for statement in statements)


def test_every_table_of_the_row_blocks_is_in_the_migrations() -> None:
    statements = "\n".join(statement for migration in read_migrations() for statement in migration.statements)
    assert all(f"CREATE TABLE IF NOT EXISTS {table}\n" in statements for table in TABLES)


def test_versions_count_from_one_and_comments_do_not_change_the_checksum(tmp_path: Path) -> None:
    (tmp_path / "0001_first.sql").write_text("SELECT 1;")
    (before,) = read_migrations(tmp_path)
    (tmp_path / "0001_first.sql").write_text("-- why\nSELECT 1;")
    (after,) = read_migrations(tmp_path)
    assert (before.version, before.name, before.statements) == (1, "0001_first", ("SELECT 1",))
    assert before.checksum == after.checksum


@pytest.mark.parametrize("name", ["0002_second.sql", "first.sql", "0001-first.sql", "00001_first.sql"])
def test_a_misnumbered_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(MigrationError, match=f"expected a migration 0001_name.sql .* got {name}"):
        read_migrations(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match="found none"):
        read_migrations(tmp_path)


def test_the_migrations_are_inside_the_package() -> None:
    assert MIGRATIONS.is_dir()
