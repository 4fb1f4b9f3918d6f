"""Updates without a broker: what is learned, what is decided, what is kept, and that the log makes it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
import torch

from ops.settings import Gate, Settings
from students import saved
from students.examples import ExampleError, LabelledPair
from students.grades import ESCI
from students.incremental import checkpoint as checkpoints
from students.incremental import lineage as lineages
from students.incremental.checkpoint import Checkpoint, CheckpointError
from students.incremental.golden import Golden, read_golden
from students.incremental.judged import is_held_out
from students.incremental.learning import weights_hash
from students.incremental.rebuild import RebuildError, rebuild
from students.incremental.state import Sorter, State, lesson, taken_back
from students.incremental.trainer import TrainerError, begin, folder_of
from students.incremental.updating import Updater
from tests.students.incremental.samples import judgements, tiny_trainer, write_first, write_golden

PARTITION = "relevance.judgements/0"


class Trainer:
    """A trainer fed by hand: a log of values, and an update for each stretch of it."""

    def __init__(self, tmp_path: Path, encoder: Path, **changed: object) -> None:
        first = write_first(tmp_path / "start", encoder)
        golden = write_golden(tmp_path / "golden.jsonl")
        self.settings: Settings = tiny_trainer(tmp_path / "run", first, golden, **changed)
        self.golden: Golden = read_golden(golden, ESCI)
        self.folder = folder_of(self.settings)
        self.log: list[bytes] = []
        self.now: Checkpoint = begin(self.settings, lambda _: None)
        self.updater = Updater(self.settings, self.golden, clock_ms=lambda: 1_700_000_100_000)

    def update(self, values: list[bytes], *, accept: bool = False) -> lineages.Lineage:
        from students.incremental.judged import RefusedError, read

        sorter = Sorter(
            self.now.state,
            golden_queries=self.golden.queries,
            held_out_share=self.settings.trainer.held_out_share,
        )
        for value in values:
            sorter.at(PARTITION, len(self.log))
            self.log.append(value)
            try:
                sorter.add(read(value, ESCI))
            except RefusedError:
                sorter.taken.refused += 1
        made = self.updater.update(self.now, sorter.taken, accept=accept, say=lambda _: None)
        state = msgspec.structs.replace(made.state, saved=self.now.state.saved + 1)
        self.now = Checkpoint(state, made.lineage, made.champion, made.previous)
        checkpoints.write(self.folder, self.now, keep=3)
        assert made.lineage is not None
        lineages.write(self.folder, made.lineage)
        return made.lineage

    def ask(self, gate: Gate) -> None:
        """Go on with another gate."""
        self.settings = self.settings.model_copy(update={"gate": gate})
        self.updater = Updater(self.settings, self.golden, clock_ms=lambda: 1_700_000_100_000)

    def values(self, name: str, begin: int, end: int) -> Mapping[int, bytes | None]:
        assert name == PARTITION
        return {offset: self.log[offset] for offset in range(begin, end)}


def encoded(count: int, **options: float) -> list[bytes]:
    return [msgspec.json.encode(each) for each in judgements(count, **options)]  # type: ignore[arg-type]


def test_updates_pass_learn_and_are_made_again_from_the_log(small_encoder: Path, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, small_encoder)
    first_weights = weights_hash(trainer.now.champion)
    made = [trainer.update([*encoded(160, seed=seed), b"{broken"]) for seed in (1, 2, 3)]
    outcomes = [each.outcome for each in made]
    assert "passed" in outcomes, [each.why for each in made]
    assert made[0].start == first_weights
    used = [identity for each in made for identity in (*each.used, *each.held_out)]
    assert len(used) == len(set(used)) == 480
    assert [each.ranges[PARTITION] for each in made] == [(0, 161), (161, 322), (322, 483)]
    assert [each.refused for each in made] == [1, 1, 1]
    assert made[1].replayed > 0

    state = trainer.now.state
    assert not any(is_held_out(each.judged.example.query, 0.2) for each in state.stored)
    assert all(is_held_out(each.example.query, 0.2) for each in state.held_out)
    tail = {pair.query for pair in trainer.golden.pairs if pair.traffic_class == "tail"}
    recent = {each.example.query for each in state.held_out}
    assert made[-1].figures["tail.queries"] == len(tail | recent) > len(recent)
    last = max(each.update for each in made if each.outcome == "passed")
    assert state.champion == last
    again = rebuild(trainer.folder, last, log=trainer.values, golden=trainer.golden, say=lambda _: None)
    assert again.same
    assert again.close
    assert weights_hash(again.student) == lineages.lineage_of(trainer.folder, last).weights
    assert again.golden["auc"] > 0.8

    trainer.log[5], trainer.log[6] = trainer.log[6], b"{}"
    with pytest.raises(RebuildError, match=r"expected the \d+ judgements that it used"):
        rebuild(trainer.folder, last, log=trainer.values, golden=trainer.golden, say=lambda _: None)


def test_a_challenger_that_is_kept_is_learned_with_the_next(small_encoder: Path, tmp_path: Path) -> None:
    # Rates at which nothing is learned.
    trainer = Trainer(tmp_path, small_encoder, learning_rate=1e-9, head_learning_rate=1e-9)
    first = trainer.update(encoded(120, seed=1))
    assert first.outcome == "kept"
    assert "is not surely above 0" in first.why
    assert trainer.now.state.champion == 0
    second = trainer.update(encoded(120, seed=2))
    assert second.parent == 0
    assert second.fresh == len(first.used) + len(second.used)
    assert second.weights != first.weights


def test_beyond_the_most_the_oldest_are_left_out(small_encoder: Path, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, small_encoder, learning_rate=1e-9, head_learning_rate=1e-9, most_new=150)
    made = [trainer.update(encoded(100, seed=seed)) for seed in (1, 2, 3)]
    assert [each.outcome for each in made] == ["kept"] * 3
    assert made[-1].fresh == 150
    left = {each.identity for each in trainer.now.state.unlearned}
    assert {*made[1].used, *made[2].used} >= left >= set(made[2].used)


def test_poisoned_judgements_stop_publishing_and_are_set_aside(small_encoder: Path, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, small_encoder)
    for seed in (1, 2, 3):
        trainer.update(encoded(200, seed=seed))
    before = trainer.now
    assert before.state.champion > 0
    poisoned = trainer.update(encoded(200, seed=4, flipped=0.4))
    assert poisoned.outcome == "halted", poisoned.figures
    assert [alarm.guard for alarm in poisoned.alarms] == ["disagreement"]
    assert weights_hash(trainer.now.champion) == weights_hash(before.champion)
    assert trainer.now.state.stored == before.state.stored
    assert len(trainer.now.state.quarantine) == 200
    assert trainer.now.state.offsets == {PARTITION: 800}
    assert not set(poisoned.used) & {each.identity for each in trainer.now.state.unlearned}

    clean = trainer.update(encoded(200, seed=5))
    assert clean.outcome != "halted", clean.why
    taken_in = trainer.update(encoded(40, seed=6), accept=True)
    assert taken_in.accepted
    assert trainer.now.state.quarantine == ()
    assert taken_in.fresh >= 150


def test_doubted_judgements_wait_and_go_the_way_of_the_next(small_encoder: Path, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, small_encoder)
    for seed in (1, 2, 3):
        trainer.update(encoded(200, seed=seed))
    before = trainer.now
    gate = trainer.settings.gate
    # Hardly any evidence is enough for doubt, and none for an alarm.
    doubting = gate.model_copy(update={"guard_alpha": 1e-9, "guard_doubt": 0.4999})
    trainer.ask(doubting)
    doubted = trainer.update(encoded(60, seed=4, flipped=0.4))
    assert (doubted.outcome, doubted.alarms) == ("doubted", ())
    assert "they wait for the next ones" in doubted.why
    waiting = trainer.now.state
    assert {each.identity for each in waiting.doubted} == {*doubted.used, *doubted.held_out}
    assert len(waiting.doubted) == 60
    assert waiting.suspicion == doubted.figures["watch.suspicion"] > 0
    assert (waiting.stored, waiting.unlearned, waiting.held_out, waiting.reference, waiting.champion) == (
        before.state.stored,
        before.state.unlearned,
        before.state.held_out,
        before.state.reference,
        before.state.champion,
    )
    found = checkpoints.newest(trainer.folder, lambda _: None)
    assert found is not None
    assert found.state == waiting

    trainer.ask(gate)
    halted = trainer.update(encoded(200, seed=5, flipped=0.4))
    assert halted.outcome == "halted", halted.why
    after = trainer.now.state
    assert after.doubted == ()
    assert {each.identity for each in after.quarantine} == {
        *doubted.used,
        *doubted.held_out,
        *halted.used,
        *halted.held_out,
    }


def test_doubted_judgements_are_learned_once_the_doubt_is_gone_and_made_again(
    small_encoder: Path, tmp_path: Path
) -> None:
    trainer = Trainer(tmp_path, small_encoder)
    gate = trainer.settings.gate
    made = [trainer.update(encoded(200, seed=seed)) for seed in (1, 2)]
    trainer.ask(gate.model_copy(update={"guard_alpha": 1e-9, "guard_doubt": 0.4999}))
    doubted = trainer.update(encoded(60, seed=3, flipped=0.4))
    assert doubted.outcome == "doubted", doubted.why
    trainer.ask(gate.model_copy(update={"guard_alpha": 1e-9, "guard_doubt": 1e-8, "tail_gain": 0}))
    unlearned = len(trainer.now.state.unlearned)
    learned = trainer.update(encoded(200, seed=4))
    assert learned.outcome in ("passed", "kept"), learned.why
    assert learned.fresh == unlearned + len(doubted.used) + len(learned.used)
    held = {each.identity for each in trainer.now.state.held_out}
    assert {*doubted.held_out, *learned.held_out} <= held
    assert trainer.now.state.doubted == ()
    made += [doubted, learned]
    last = max(each.update for each in made if each.outcome == "passed")
    again = rebuild(trainer.folder, last, log=trainer.values, golden=trainer.golden, say=lambda _: None)
    assert again.same


def test_duplicates_are_counted_and_left(small_encoder: Path, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, small_encoder)
    values = encoded(80, seed=1)
    first = trainer.update([*values, *values[:10]])
    again = trainer.update([*values, *encoded(20, seed=2)])
    assert (first.duplicates, again.duplicates) == (10, 80)
    assert len(again.used) + len(again.held_out) == 20


def test_a_champion_that_serving_refuses_is_taken_back(small_encoder: Path, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, small_encoder)
    made = [trainer.update(encoded(160, seed=seed)) for seed in (1, 2)]
    state = trainer.now.state
    assert state.champion > 0
    learned = {each.identity for each in state.learned}
    assert learned
    back = taken_back(state)
    assert back.champion == made[state.champion - 1].parent
    assert learned <= {each.identity for each in back.unlearned}
    fresh, _ = lesson(
        back, Sorter(back, golden_queries=frozenset(), held_out_share=0.2).taken, trainer.settings.trainer
    )
    assert learned <= {each.identity for each in fresh}


def test_checkpoints_are_whole_or_set_aside(small_encoder: Path, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, small_encoder)
    trainer.update(encoded(80, seed=1))
    trainer.update(encoded(80, seed=2))
    assert [path.name for path in checkpoints.numbered(trainer.folder)] == ["000000", "000001", "000002"]
    found = checkpoints.newest(trainer.folder, lambda _: None)
    assert found is not None
    assert found.state == trainer.now.state
    assert weights_hash(found.champion) == weights_hash(trainer.now.champion)

    weights = trainer.folder / "checkpoints/000002/champion/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    told: list[str] = []
    back = begin(trainer.settings, told.append)
    assert back.state.update == 1
    assert "000002/champion/model.safetensors: damaged" in told[0]
    assert "going on from the checkpoint before it" in told[0]
    names = [path.name for path in (trainer.folder / "checkpoints").iterdir()]
    assert sorted(names) == ["000000", "000001", "damaged-000002"]
    with pytest.raises(lineages.LineageError, match="expected the record of update 2"):
        lineages.lineage_of(trainer.folder, 2)

    for name in ("000000", "000001"):
        (trainer.folder / "checkpoints" / name / "state.msgpack").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"none of 2 checkpoints is whole\. Move the folder"):
        begin(trainer.settings, told.append)


def test_peoples_grades_are_replayed_from_the_first_update_on_and_rebuilt(
    small_encoder: Path, tmp_path: Path
) -> None:
    golden = read_golden(write_golden(tmp_path / "golden.jsonl"), ESCI)
    labels = [
        LabelledPair(query=f"red mug {place}", item_id=f"p{place}", item_text="red mug nova", grade="E")
        for place in range(60)
    ]
    # Of a golden query nothing is learned, whoever graded it.
    known = golden.pairs[0]
    file = tmp_path / "labels.jsonl"
    file.write_bytes(msgspec.json.Encoder().encode_lines([*labels, known]))
    trainer = Trainer(tmp_path, small_encoder, labels=file)
    stored = trainer.now.state.stored
    assert {each.judged.example.query for each in stored} == {
        pair.query for pair in labels if not is_held_out(pair.query, 0.2)
    }
    assert {each.update for each in stored} == {0}
    made = trainer.update(encoded(160, seed=1))
    assert made.replayed == min(len(stored), round(made.fresh * trainer.settings.trainer.replay_share))
    assert made.outcome == "passed", made.why
    file.unlink()
    again = rebuild(trainer.folder, 1, log=trainer.values, golden=trainer.golden, say=lambda _: None)
    assert again.same
    (trainer.folder / checkpoints.BEGUN).write_bytes(b"")
    with pytest.raises(CheckpointError, match="expected the state before the first update"):
        rebuild(trainer.folder, 1, log=trainer.values, golden=trainer.golden, say=lambda _: None)


@pytest.mark.parametrize(
    "line", [b"{broken", b'{"query": "a", "item_id": "b", "item_text": "c", "grade": "Z"}']
)
def test_labels_that_are_none_are_told_by_file_and_line(
    line: bytes, small_encoder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_bytes(line + b"\n")
    with pytest.raises(ExampleError, match=r"labels\.jsonl:1: "):
        Trainer(tmp_path, small_encoder, labels=file)
    assert not checkpoints.numbered(tmp_path / "run" / "students" / "trainer")


def test_a_first_start_needs_a_student(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"expected trainer\.start"):
        begin(Settings(run_dir=tmp_path), lambda _: None)


def test_the_first_student_is_kept_for_rebuilding(small_encoder: Path, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, small_encoder)
    kept = saved.load(trainer.folder / checkpoints.FIRST)
    assert weights_hash(kept) == weights_hash(trainer.now.champion)
    assert trainer.now.state == State()
    with pytest.raises(lineages.LineageError, match=r"no update in .* made version 3"):
        lineages.update_of(trainer.folder, 3)
    assert all(torch.isfinite(weight).all() for weight in kept.model.parameters())
