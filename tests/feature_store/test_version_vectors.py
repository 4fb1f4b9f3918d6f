"""Which tables a step makes due, and what comes of versions that have none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from feature_store.rows import FeatureRow
from feature_store.version_vectors import VersionVectors, serving
from ops.scoring import item_vectors
from ops.settings import Settings
from streams.records import StudentStep
from students.export.export import export_version
from students.publishing.repository import versions_of
from tests.feature_store.samples import step
from tests.integration.triton_server import LOOSE, PAIRS, small_student
from tests.students.samples import write_small_encoder

ITEMS = tuple(f"i{number}" for number in range(item_vectors.PUSH_ROWS + 3))


def _take(vectors: VersionVectors, *steps: StudentStep) -> list[FeatureRow]:
    return [row for table in vectors.of(steps) for part in table for row in part]


def test_only_towers_that_serve_are_due() -> None:
    assert serving([step("interaction", version=5)]) == []
    assert serving([step("representation", version=4)]) == [4]
    assert serving([step("representation", version=4, step="refused")]) == []
    # What the topic's compaction took away is named by the step that follows.
    later = step("representation", version=2, step="pinned", champion=2, challenger=7, previous=1)
    assert serving([later, step("representation", version=8)]) == [1, 2, 7, 8]


def test_a_table_is_pushed_once_and_what_has_none_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings.model_validate({"run_dir": str(tmp_path / "run")})
    student = small_student(write_small_encoder(tmp_path / "encoder"), "representation", seed=1)
    made_ms = 1_700_000_000_000
    folder = export_version(student, versions_of(settings), pairs=PAIRS, now_ms=made_ms, limits=LOOSE)
    matrix = np.random.default_rng(1).standard_normal((len(ITEMS), 4)).astype(np.float32)
    item_vectors.save(item_vectors.table(1, ITEMS, [f"h{item}" for item in ITEMS], matrix), folder)
    vectors = VersionVectors(settings)
    under_way = vectors.of([step("representation", version=1)])
    next(under_way)
    # As when a store fails: the loop is left, and the table is due again.
    under_way.close()
    rows = _take(vectors, step("representation", version=1), step("representation", version=9))
    assert [row.key for row in rows] == [(item, "representation-1") for item in ITEMS]
    assert rows[1002].values == {"vector": matrix[1002].tolist(), "content_hash": "hi1002"}
    assert {row.event_us for row in rows} == {made_ms * 1000}
    assert "no item vectors for the feature store" in caplog.text
    assert _take(vectors, step("representation", version=1)) == []
    # A start that lost count says the same once more.
    assert _take(VersionVectors(settings), step("representation", version=1)) == rows
