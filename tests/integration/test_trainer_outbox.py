"""A champion on its way into a real Triton: exported while there is none, served once, refused, waiting."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.settings import Settings
from ops.stack.ports import free_port
from students.grades import ESCI
from students.incremental import lineage as lineages
from students.incremental.checkpoint import Checkpoint
from students.incremental.golden import read_golden
from students.incremental.learning import weights_hash
from students.incremental.outbox import AwayError, Outbox
from students.incremental.state import State
from students.publishing.ledger import Ledger, Route, route_of
from students.publishing.repository import root_of, versions_of
from students.version_folder import read_manifest
from tests.integration.triton_server import LOOSE, environment_or_skip, serving, small_student
from tests.students.incremental.lineage_samples import lineage
from tests.students.incremental.samples import judged, write_golden
from tests.students.samples import write_small_encoder

pytestmark = pytest.mark.integration

OFFSETS = {"relevance.judgements/0": 40}


def _passed(folder: Path, encoder: Path, *, update: int) -> Checkpoint:
    """Return a checkpoint whose last update passed, its record written."""
    student = small_student(encoder, "interaction", seed=update)
    record = lineage(
        update,
        ranges={"relevance.judgements/0": (0, 40)},
        offsets=OFFSETS,
        fresh=40,
        weights=weights_hash(student),
        figures={"tail.auc.difference": 0.1},
    )
    lineages.write(folder, record)
    state = State(update=update, champion=update, previous=update - 1, learned=tuple(judged(40)))
    return Checkpoint(state, record, student, student)


def _outbox(settings: Settings, tmp_path: Path) -> Outbox:
    golden = read_golden(write_golden(tmp_path / "golden.jsonl"), ESCI)
    return Outbox(settings, tmp_path / "trainer", golden, lambda: 7, LOOSE)


def test_a_champion_is_exported_then_served_once_and_a_bad_one_refused(tmp_path: Path) -> None:
    environment_or_skip()
    encoder = write_small_encoder(tmp_path / "encoder")
    alone = _outbox(Settings(run_dir=tmp_path / "run"), tmp_path)
    first = _passed(alone.folder, encoder, update=1)
    assert alone.waiting(1)
    exported = alone.deliver(first)
    assert (exported.step, exported.version) == ("exported", 1)
    assert not alone.waiting(1)
    manifest = read_manifest(versions_of(alone.settings) / "1")
    assert (manifest.offsets, manifest.parent, manifest.gate["update"]) == (OFFSETS, 0, 1.0)

    with serving(tmp_path / "run", encoder) as running:
        outbox = _outbox(running.settings, tmp_path)
        assert outbox.waiting(1)
        # As after a crash: what was served already is found, and served no second time.
        for _ in range(2):
            assert outbox.deliver(first).step == "published"
        assert not outbox.waiting(1)
        steps = Ledger(root_of(running.settings)).steps()
        assert [(step.step, step.version) for step in steps] == [("exported", 1), ("published", 1)]
        assert route_of(steps, "interaction") == Route(champion=1)
        with running.publisher() as publisher:
            assert [served.version for served in publisher.listed()] == [1]

        strict = running.settings.model_copy(
            update={"serving": running.settings.serving.model_copy(update={"parity": 1e-12})}
        )
        refused = _outbox(strict, tmp_path).deliver(_passed(outbox.folder, encoder, update=2))
        assert (refused.step, refused.version) == ("refused", 2)
        assert "is not served" in refused.why
        # A crash before it was taken back: it is asked again and refused again.
        assert outbox.waiting(2)
        assert outbox.deliver(_passed(outbox.folder, encoder, update=2)).step == "refused"
        assert read_manifest(versions_of(strict) / "2").parent == 1
        assert route_of(Ledger(root_of(strict)).steps(), "interaction").champion == 1

    away = running.settings.model_copy(update={"triton": f"127.0.0.1:{free_port()}"})
    waiting = _outbox(away, tmp_path)
    third = _passed(waiting.folder, encoder, update=3)
    with pytest.raises(AwayError):
        waiting.deliver(third)
    assert waiting.waiting(3)
    with pytest.raises(AwayError):
        waiting.deliver(third)
    # The same export waits; no further number was used.
    assert sorted(path.name for path in versions_of(away).glob("[0-9]*")) == ["1", "2", "3"]
