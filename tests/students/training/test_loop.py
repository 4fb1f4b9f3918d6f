"""Training: learns, twice the same, the same after a kill, and with two processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import torch

from students.evaluation.graded import point_figures, scored_by
from students.examples import stripped
from students.grades import ESCI
from students.saved import Paradigm, load
from students.training import run_folder
from students.training.checkpoint import CheckpointError
from students.training.curves import decode
from students.training.loop import TrainingError, train
from students.training.run import described, run, untrained
from students.training.run_folder import RunFolderError
from tests.students.samples import Graded, examples
from tests.students.tiny import all_losses, tiny_settings

ROOT = Path(__file__).resolve().parents[3]
PARADIGMS: list[Paradigm] = ["interaction", "representation"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load(folder / run_folder.STUDENT).model.state_dict())


def same(one: Path, other: Path) -> bool:
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def trained(out: Path, encoder: Path, paradigm: Paradigm) -> Path:
    settings = tiny_settings(encoder, losses=all_losses())
    run(out, examples(), description=described(paradigm, ESCI, settings), settings=settings)
    return out


def process(out: Path, encoder: Path, paradigm: str, *launcher: str) -> list[str]:
    return [*(launcher or (sys.executable,)), "-m", "tests.students.tiny", str(out), str(encoder), paradigm]


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_it_learns_a_rule(paradigm: Paradigm, small_encoder: Path) -> None:
    settings = tiny_settings(small_encoder, epochs=25, losses=all_losses())
    student = untrained(described(paradigm, ESCI, settings), settings)
    made = train(student, examples(), settings=settings)
    pairs = [Graded(each.query, each.item_text, each.grade, "") for each in examples()]
    assert point_figures(scored_by(student, pairs))["auc"] > 0.95
    assert made.curve.points[-1].loss < 0.6 * made.curve.points[0].loss
    assert not student.model.training


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(
    paradigm: Paradigm, small_encoder: Path, tmp_path: Path
) -> None:
    whole = trained(tmp_path / "whole", small_encoder, paradigm)
    broken = tmp_path / "broken"
    begun = subprocess.Popen(
        process(broken, small_encoder, paradigm), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert begun.stdout is not None
    for line in begun.stdout:
        if line.startswith("step 7 "):
            os.kill(begun.pid, signal.SIGKILL)
            break
    begun.wait(timeout=60)
    begun.stdout.close()
    assert not (broken / run_folder.DONE).exists()
    said: list[str] = []
    settings = tiny_settings(small_encoder, losses=all_losses())
    made = run(
        broken,
        examples(),
        description=described(paradigm, ESCI, settings),
        settings=settings,
        say=said.append,
    )
    assert made.resumed_from > 0
    assert f"goes on after step {made.resumed_from}" in said[0]
    assert same(whole, broken)
    curve = decode((broken / "curves.json").read_bytes())
    assert curve.points[0].step == 1
    assert curve.points[-1].step == made.steps


def test_two_runs_are_equal_and_another_seed_is_not(small_encoder: Path, tmp_path: Path) -> None:
    one, two = (trained(tmp_path / name, small_encoder, "interaction") for name in ("one", "two"))
    assert same(one, two)
    settings = tiny_settings(small_encoder, losses=all_losses(), seed=2)
    run(
        tmp_path / "three",
        examples(),
        description=described("interaction", ESCI, settings),
        settings=settings,
    )
    assert not same(one, tmp_path / "three")


def test_two_processes_learn_as_one_with_twice_the_batch(small_encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "parallel"
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    told = subprocess.run(
        process(out, small_encoder, "interaction", *launcher),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    made = run_folder.finished(out)
    assert made is not None
    assert (made.record.processes, made.steps) == (2, 4 * 3)
    assert told.stdout.count("examples of 8 queries") == 1
    settings = tiny_settings(small_encoder, losses=all_losses())
    with pytest.raises(RunFolderError, match="processes was 2, is 1"):
        run(out, examples(), description=described("interaction", ESCI, settings), settings=settings)


def test_a_run_folder_leaves_pictures_and_figures(small_encoder: Path, tmp_path: Path) -> None:
    settings = tiny_settings(small_encoder, epochs=2)
    pairs = [Graded(each.query, each.item_text, each.grade, "") for each in examples()]
    description = described("representation", ESCI, settings)
    made = run(tmp_path, examples(), description=description, settings=settings, watched=pairs)
    assert set(made.watched) == {"auc", "ndcg_at_10"}
    assert (tmp_path / "curves.svg").read_bytes().startswith(b"<?xml")
    assert len(decode((tmp_path / "curves.json").read_bytes()).checks) == 2
    assert not (tmp_path / run_folder.CHECKPOINT).exists()
    said: list[str] = []
    again = run(
        tmp_path, examples(), description=description, settings=settings, watched=pairs, say=said.append
    )
    assert again == made
    assert said == [f"{tmp_path} is trained already"]


def test_a_student_goes_on_from_another(small_encoder: Path, tmp_path: Path) -> None:
    first = trained(tmp_path / "first", small_encoder, "interaction")
    settings = tiny_settings(small_encoder, epochs=1)
    description = described("interaction", ESCI, settings)
    run(
        tmp_path / "second",
        examples(2),
        description=description,
        settings=settings,
        start=first / run_folder.STUDENT,
    )
    assert not same(first, tmp_path / "second")
    other = msgspec.structs.replace(description, paradigm="representation")
    with pytest.raises(RunFolderError, match="expected a student to go on from"):
        run(
            tmp_path / "third",
            examples(2),
            description=other,
            settings=settings,
            start=first / run_folder.STUDENT,
        )


def test_other_settings_or_data_do_not_go_on(small_encoder: Path, tmp_path: Path) -> None:
    trained(tmp_path, small_encoder, "interaction")
    settings = tiny_settings(small_encoder, losses=all_losses(), epochs=9)
    with pytest.raises(RunFolderError, match=r"settings\.epochs was 4, is 9"):
        run(tmp_path, examples(), description=described("interaction", ESCI, settings), settings=settings)
    settings = tiny_settings(small_encoder, losses=all_losses())
    with pytest.raises(RunFolderError, match="data was"):
        run(tmp_path, examples(2), description=described("interaction", ESCI, settings), settings=settings)


def test_a_damaged_checkpoint_is_named(small_encoder: Path, tmp_path: Path) -> None:
    settings = tiny_settings(small_encoder)
    student = untrained(described("interaction", ESCI, settings), settings)
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 half of one")
    with pytest.raises(CheckpointError, match="delete the file"):
        train(student, examples(), settings=settings, state=tmp_path / "checkpoint.pt")


def test_no_examples_and_a_loss_that_is_not_finite_are_errors(small_encoder: Path) -> None:
    settings = tiny_settings(small_encoder, learning_rate=1e30, head_learning_rate=1e30)
    student = untrained(described("interaction", ESCI, settings), settings)
    with pytest.raises(TrainingError, match="got none"):
        train(student, [], settings=settings)
    with pytest.raises(TrainingError, match="not finite"):
        train(student, examples(), settings=settings)


def test_frozen_weights_stay_and_the_others_move(small_encoder: Path) -> None:
    settings = tiny_settings(small_encoder, frozen_embeddings=True, frozen_layers=1, epochs=1)
    student = untrained(described("interaction", ESCI, settings), settings)
    before = {name: value.clone() for name, value in student.model.state_dict().items()}
    train(student, examples(), settings=settings)
    moved = {
        name for name, value in student.model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert not any("word_embeddings" in name or "layer.0." in name for name in moved)
    assert any("layer.1." in name for name in moved)


def test_accumulated_batches_are_one_large_one(small_encoder: Path) -> None:
    """Without dropout, and with losses that are means over all rows, two halves make the step of the whole."""
    found = []
    for changed in ({"batch_pairs": 24}, {"batch_pairs": 12, "accumulation": 2}):
        settings = tiny_settings(
            small_encoder, epochs=1, losses={"bio_tags": 0, "score_distribution": 0}, **changed
        )
        student = untrained(described("interaction", ESCI, settings), settings)
        for module in student.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        student.model.encoder.body.config._attn_implementation = "eager"  # type: ignore[union-attr]
        train(student, stripped(examples(), distribution=False, chain=False), settings=settings)
        found.append(student.model.state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-3, atol=2e-5)


def test_progress_says_how_long_it_takes(small_encoder: Path) -> None:
    settings = tiny_settings(small_encoder, epochs=1)
    said: list[str] = []
    student = untrained(described("interaction", ESCI, settings), settings)
    began_s = time.monotonic()
    made = train(student, examples(), settings=settings, say=said.append)
    assert made.seconds <= time.monotonic() - began_s
    assert "0 s left" in said[-1]
    assert "pairs/s" in said[-1]
