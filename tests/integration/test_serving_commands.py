"""`relevance students publish | promote | rollback | list` and `relevance score` as a person runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.scoring import item_vectors
from ops.servers.steps import ROOT
from students import saved
from students.publishing.repository import versions_of
from tests.integration.triton_server import PAIRS, Serving, environment_or_skip, serving, small_student
from tests.students.samples import write_small_encoder

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    environment_or_skip()
    encoder = write_small_encoder(tmp_path_factory.mktemp("encoder"))
    with serving(tmp_path_factory.mktemp("run"), encoder) as running:
        yield running


def relevance(server: Serving, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RELEVANCE_")}
    return subprocess.run(
        [sys.executable, "-m", "ops.cli.main", *arguments],
        cwd=ROOT,
        env=kept | dict(server.variables) | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_from_a_trained_student_to_a_score(server: Serving, tmp_path: Path) -> None:
    nothing = relevance(server, "students", "list")
    assert "no student has been published in" in nothing.stdout
    asked = relevance(server, "score", "red kettle", "tea pot")
    assert asked.returncode == 1
    assert "no interaction student is published" in asked.stderr
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"query": q, "item_text": i, "more": 1}) + "\n" for q, i in PAIRS))
    items = tmp_path / "items.jsonl"
    lines = (
        {"item_id": f"i{place}", "title": item, "brand": "nova"} for place, (_, item) in enumerate(PAIRS)
    )
    items.write_text("".join(json.dumps(line) + "\n" for line in lines))

    towers = tmp_path / "towers"
    saved.save(small_student(server.encoder, "representation", seed=3), towers)
    done = relevance(server, "students", "publish", str(towers), "--pairs", str(pairs), "--items", str(items))
    assert done.returncode == 0, done.stderr
    assert "exported representation-1" in done.stdout
    assert "published representation-1  champion 1" in done.stdout
    assert "not announced yet, the next command does it: no Kafka address" in done.stdout
    table = item_vectors.load(versions_of(server.settings) / "1")
    assert len(table.item_ids) == len(PAIRS)

    folders = [server.export("interaction", seed=seed) for seed in (4, 5)]
    for folder in folders:
        assert relevance(server, "students", "publish", str(folder)).returncode == 0
    done = relevance(server, "students", "promote", "3", "--pin", "--decision", "better on the tail")
    assert "promoted interaction-3  champion 3  challenger none  pinned" in done.stdout
    refused = relevance(server, "students", "promote", "2")
    assert (refused.returncode, "is pinned" in refused.stderr) == (1, True)
    done = relevance(server, "students", "rollback", "interaction", "--unpin")
    assert "rolled_back interaction-2  champion 2" in done.stdout
    listed = relevance(server, "students", "list").stdout
    assert "representation-1  champion" in listed
    assert "interaction-3     idle      promoted" in listed
    assert "better on the tail" in listed

    shown = relevance(server, "score", "red kettle", "nova tea pot", "--brand", "Nova")
    assert shown.returncode == 0, shown.stderr
    assert "interaction-2" in shown.stdout
    assert "brand: Nova" in shown.stdout
    found = json.loads(relevance(server, "score", "red kettle", "nova tea pot", "--json").stdout)
    assert set(found["grades"]) == {"E", "S", "C", "I"}
    assert sum(found["grades"].values()) == pytest.approx(1, abs=1e-4)
    other = json.loads(
        relevance(server, "score", "red kettle", "nova tea pot", "--json", "--version", "3").stdout
    )
    assert other["student_version"] == "interaction-3"
    assert other["score"] != found["score"]


def test_what_is_wrong_is_told_in_a_line(server: Serving, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"query": "a"}\n')
    trained = tmp_path / "student"
    saved.save(small_student(server.encoder, "interaction", seed=1), trained)
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        (("students", "publish", str(tmp_path / "empty")), "expected a student's version with version.json"),
        (("students", "publish", str(trained)), "name --pairs"),
        (
            ("students", "publish", str(trained), "--pairs", str(tmp_path / "pairs.jsonl")),
            "pairs.jsonl line 1",
        ),
        (("students", "promote", "99"), "version 99 has not been published"),
        (("score", "a", "b", "--version", "99"), "version 99 is not found"),
        (("score", "a", "b", "--attribute", "mood=good"), "expected attributes among"),
    ):
        done = relevance(server, *arguments)
        assert done.returncode in (1, 2), arguments
        assert message in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
