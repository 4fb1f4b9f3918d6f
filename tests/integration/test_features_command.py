"""`relevance features` on a real sqlite store."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from feature_store.content import content_row
from feature_store.engagement import merge
from feature_store.store import apply, online_path
from feature_store.writing import FeatureWriter
from ops.settings import Settings
from streams.records import CatalogueItem
from tests.feature_store.samples import statistics, window

pytestmark = pytest.mark.integration


def features(run_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command on a run directory of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ops.cli.main", "--run-dir", str(run_dir), "features", *arguments],
        env=os.environ | {"RELEVANCE_RUN_DIR": str(run_dir)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_apply_through_feast_and_rebuild_from_nothing(tmp_path: Path) -> None:
    rebuilt = features(tmp_path, "rebuild")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert "pair_engagement" in rebuilt.stdout
    listed = features(tmp_path, "feast", "feature-views", "list")
    assert listed.returncode == 0, listed.stderr
    assert "pair_engagement" in listed.stdout


def test_what_feast_refuses_is_an_error(tmp_path: Path) -> None:
    answer = features(tmp_path, "feast", "no-such-command")
    assert answer.returncode == 1
    assert "exit status 2" in answer.stderr


@contextmanager
def filled(run_dir: Path) -> Iterator[FeatureWriter]:
    """Fill a store with an item, a pair's engagement and a query's statistics, and yield its writer."""
    settings = Settings.model_validate({"run_dir": str(run_dir)})
    apply(settings)
    writer = FeatureWriter(settings)
    at_ms = time.time_ns() // 1_000_000 - 5_000
    item = CatalogueItem(item_id="sku-1", title="Nova mug [bold]\x1b[31m", updated_ms=at_ms)
    writer.write("item_content", [content_row(item)])
    counted = window("red mug", ("sku-1", 40, 12), updated_ms=at_ms)
    writer.write("pair_engagement", merge([counted], {}, windows_kept=24))
    writer.write("query_statistics", [statistics(f"q{n}", at_ms * 1000, n) for n in range(20)])
    yield writer
    writer.close()


def test_read_shows_what_serving_would_read(tmp_path: Path) -> None:
    with filled(tmp_path):
        answer = features(tmp_path, "read", "  RED Mug", "sku-1", "sku-2")
    assert answer.returncode == 0, answer.stderr
    known, unknown = answer.stdout.splitlines()[-2:]
    # 12 clicks where 40 / 4 were expected.
    assert known.split()[:5] == ["sku-1", "40", "12", "0", "1.20"]
    assert "Nova mug [bold]" in known
    assert "\x1b[31m" not in answer.stdout
    assert unknown.split()[:6] == ["sku-2", "-", "-", "-", "-", "-"]
    assert "(not in the catalogue)" in unknown


def test_read_says_what_to_do_about_a_store_that_is_not_there_or_damaged(tmp_path: Path) -> None:
    answer = features(tmp_path, "read", "mug", "sku-1")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "has the store been applied?" in answer.stderr
    with filled(tmp_path):
        pass
    path = online_path(Settings.model_validate({"run_dir": str(tmp_path)}))
    path.write_bytes(b"\xa5" * 65_536)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    answer = features(tmp_path, "read", "mug", "sku-1")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "relevance features rebuild" in answer.stderr


def test_the_audit_compares_every_view_and_ends_with_an_error_at_a_difference(tmp_path: Path) -> None:
    empty = features(tmp_path, "audit")
    assert empty.returncode == 1
    assert "the store is empty" in empty.stderr
    with filled(tmp_path) as writer:
        found = features(tmp_path, "audit", "--json")
        assert found.returncode == 0, found.stderr
        results = {each["view"]: each for each in msgspec.json.decode(found.stdout)}
        assert {view: (each["equal"], each["different"]) for view, each in results.items()} == {
            "item_content": (1, 0),
            "item_vectors": (0, 0),
            "query_statistics": (20, 0),
            "shopper_segment": (0, 0),
            "item_vector_tables": (0, 0),
            "query_vectors": (0, 0),
        }
        row = statistics("q3", time.time_ns() // 1000 - 1_000_000, 99)
        writer.write("query_statistics", [row])
        damaged = replace(row, values={**row.values, "frequency": 98})
        writer._write_online(writer.definitions.query_statistics, [damaged])
        found = features(tmp_path, "audit", "--keys", "20")
    assert found.returncode == 1
    assert "parity 95.00%: 20 compared, 19 equal, 1 different" in found.stdout
    assert "different: query_statistics 'q3'" in found.stdout
