"""Addresses of ClickHouse that can't work, and what is said about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.clickhouse.client import ClickHouseUnavailableError, open_client
from ops.settings import Settings


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://user:SECRET@",
        "http://user:SECRET@host:port/db",
        "http://user:SECRET@host:99999/db",
        "http://user:SECRET@[::1/db",
        "https://user:SECRET@host/db/more",
        "https://user:SECRET@host/db?secure=1",
        "http://user:SEC/RET@host:8123/db",
    ],
)
def test_a_malformed_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(
        ClickHouseUnavailableError, match=r"expected http\(s\)://user:password@host:port/database"
    ) as info:
        open_client(Settings(clickhouse=url))
    assert "SEC" not in str(info.value)
    assert info.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://user:SECRET@127.0.0.1:1/db", "Connection refused"),
        ("https://user:SECRET@127.0.0.1:1", "Connection refused"),
        ("http://user:SECRET@host.invalid:8123", "no answer"),
    ],
)
def test_an_address_without_a_server_is_named_without_its_password(url: str, reason: str) -> None:
    with pytest.raises(ClickHouseUnavailableError, match=reason) as info:
        open_client(Settings(clickhouse=url))
    assert "RELEVANCE_CLICKHOUSE" in str(info.value)
    assert "SECRET" not in str(info.value)


def test_a_path_that_the_engine_would_take_for_options_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClickHouseUnavailableError, match=r"no '\?' in the path"):
        open_client(Settings(), path=tmp_path / "data?readonly=1")


def test_a_path_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ClickHouseUnavailableError, match=r"can't be opened at .*file/data"):
        open_client(Settings(), path=tmp_path / "file" / "data")
