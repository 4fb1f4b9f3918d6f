"""The `feast` command in the repository's folder, as a Feast user knows it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from feature_store.store import apply, feast_environment
from feature_store.writing import FeatureWriter
from ops.settings import Settings
from ops.stack.ports import free_port
from tests.feature_store.samples import statistics
from tests.integration.conftest import ROOT

pytestmark = pytest.mark.integration
REPOSITORY = ROOT / "feature_store/feature_repo"


@pytest.fixture(scope="module", name="settings")
def _settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings.model_validate({"run_dir": str(tmp_path_factory.mktemp("feast"))})


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from feast.cli.cli import cli; cli()", *arguments]


@contextmanager
def _serving(settings: Settings, *arguments: str) -> Iterator[None]:
    process = subprocess.Popen(
        _command(*arguments),
        cwd=REPOSITORY,
        env=os.environ | feast_environment(settings),
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=60)


def _ask(url: str, body: object | None = None, *, within_s: float = 240) -> bytes:
    deadline_s = time.monotonic() + within_s
    while True:
        request = urllib.request.Request(
            url,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError:
            raise
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.5)


def test_apply_registers_what_the_project_registers(settings: Settings) -> None:
    environment = os.environ | feast_environment(settings)
    apply(settings)
    ran = subprocess.run(
        _command("apply"),
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "No changes to registry" in ran.stdout
    listed = subprocess.run(
        _command("feature-views", "list"),
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert listed.returncode == 0, listed.stderr
    for name in ("item_content", "item_vectors", "pair_engagement", "query_statistics", "shopper_segment"):
        assert name in listed.stdout


def test_apply_needs_no_settings_in_a_fresh_clone(tmp_path: Path) -> None:
    shutil.copytree(
        REPOSITORY, tmp_path / "feature_store/feature_repo", ignore=shutil.ignore_patterns("__pycache__")
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RELEVANCE_")}
    ran = subprocess.run(
        _command("apply"),
        cwd=tmp_path / "feature_store/feature_repo",
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    made = tmp_path / ".relevance/features"
    assert {path.name for path in made.iterdir()} >= {"registry.db", "online.db", "offline"}
    assert (made / "offline/pair_engagement/schema.parquet").exists()


def test_serve_answers_with_what_was_written(settings: Settings) -> None:
    apply(settings)
    writer = FeatureWriter(settings)
    writer.write("query_statistics", [statistics("mug", 1_790_000_000_000_000, 12)])
    writer.close()
    port = free_port()
    with _serving(settings, "serve", "--host", "127.0.0.1", "--port", str(port)):
        answer = json.loads(
            _ask(
                f"http://127.0.0.1:{port}/get-online-features",
                {"features": ["query_statistics:frequency"], "entities": {"query": ["mug", "never seen"]}},
            )
        )
    values = dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))
    assert values["frequency"]["values"] == [12, None]


def test_ui_shows_the_project(settings: Settings) -> None:
    apply(settings)
    port = free_port()
    with _serving(settings, "ui", "--host", "127.0.0.1", "--port", str(port)):
        page = _ask(f"http://127.0.0.1:{port}/")
    assert b"<html" in page
    assert b"feast" in page.lower()
