"""The rows of updates go into the table that the migrations make, and the later one of an update holds."""

from __future__ import annotations

import msgspec
import pytest
from clickhouse_connect.driver.client import Client

from ops.clickhouse.inserting import Inserter
from students.gate.guards import Alarm
from students.incremental.lineage import Lineage, Published, row_of
from tests.students.incremental.lineage_samples import lineage

pytestmark = pytest.mark.integration


def _lineage(*, update: int, outcome: str) -> Lineage:
    return lineage(
        update,
        ranges={"relevance.judgements/0": (0, 40)},
        offsets={"relevance.judgements/0": 40},
        used=("a", "b"),
        held_out=("c",),
        duplicates=1,
        refused=2,
        fresh=2,
        replayed=3,
        outcome=outcome,
        why="because",
        alarms=[Alarm(guard="people", why="it rose")] if outcome == "halted" else [],
        figures={"tail.auc.difference": 0.1},
        seconds=1.5,
        judged_to_trained_s=30.5,
        at_ms=1_700_000_000_000 + update,
    )


def test_rows_of_updates_are_stored_and_replaced(embedded_client: Client) -> None:
    embedded_client.command("TRUNCATE TABLE student_updates")
    passed, halted = _lineage(update=1, outcome="passed"), _lineage(update=2, outcome="halted")
    published = Published(update=1, version=7, step="published", why="update 1 passed the gate", at_ms=5)
    inserter = Inserter(embedded_client)
    for number, rows in enumerate(
        ([row_of(passed, None), row_of(halted, None)], [row_of(passed, published)])
    ):
        inserter.insert("student_updates", msgspec.json.Encoder().encode_lines(rows), origin=f"test:{number}")
    found = embedded_client.query(
        "SELECT update_id, outcome, student_version, why, alarms, judgements, judged_to_trained_s,"
        " sampled_to_trained_s, used, held_back, offsets FROM student_updates FINAL ORDER BY update_id"
    ).result_rows
    taken = (["a", "b"], ["c"], '{"relevance.judgements/0":40}')
    assert found == [
        (
            1,
            "passed",
            "interaction-7",
            "because; published: update 1 passed the gate",
            "[]",
            2,
            30.5,
            None,
            *taken,
        ),
        (2, "halted", "", "because", '[{"guard":"people","why":"it rose"}]', 2, 30.5, None, *taken),
    ]
