"""Any version made again: its updates from the first student on, from the records of updates and the topic's log.

Only updates that passed are trained again, the others change what later ones learn. On the machine that made it the
weights come out bit by bit the same; on another, whose arithmetic differs in the last digits, a version counts as the
same if its golden figures are within `TOLERANCE`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaConsumer, TopicPartition

from ops.settings import Gate, Students, Trainer
from students import saved
from students.evaluation.graded import point_figures, scored_by
from students.examples import fingerprint
from students.incremental import lineage as lineages
from students.incremental import state as states
from students.incremental.checkpoint import FIRST, began_with
from students.incremental.golden import Golden
from students.incremental.judged import RefusedError, read
from students.incremental.learning import learn, update_settings, weights_hash
from students.incremental.lineage import Lineage
from students.incremental.state import Sorter
from students.saved import LoadedStudent

#: Between golden figures of a version and those of its rebuilt weights on another machine.
TOLERANCE = 0.005
POLL_MS = 1000

#: Returns the values of a "topic/partition" in a half-open interval of offsets, by offset.
Log = Callable[[str, int, int], Mapping[int, bytes | None]]


class RebuildError(RuntimeError):
    """A version cannot be made again. The message says what is missing or differs."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The student; whether its weights are, bit by bit, those that were (`same`), or its golden figures within
    `TOLERANCE` (`close`); these figures by name."""

    student: LoadedStudent
    update: int
    same: bool
    close: bool
    golden: dict[str, float]


def rebuild(folder: Path, update: int, *, log: Log, golden: Golden, say: Callable[[str], None]) -> Rebuilt:
    """Make the student of an update again. `golden` must be the set that was used.

    Raises RebuildError, LineageError, CheckpointError, StudentFolderError.
    """
    wanted = lineages.lineage_of(folder, update)
    if wanted.outcome != "passed":
        raise RebuildError(f"update {update} made no version: {wanted.why}")
    if wanted.golden != golden.fingerprint:
        raise RebuildError(
            f"expected the golden set {wanted.golden} that update {update} was judged by, got {golden.fingerprint}"
        )
    first = began_with(folder)
    students, state = {0: first.champion}, first.state
    needed = _ancestors(folder, update)
    for number in range(1, update + 1):
        record = lineages.lineage_of(folder, number)
        trainer = Trainer.model_validate(record.settings["trainer"])
        gate = Gate.model_validate(record.settings["gate"])
        if record.parent != state.champion:
            state = states.taken_back(state)
        if record.accepted:
            state = states.accepted(state, held_out_share=trainer.held_out_share)
        sorter = Sorter(state, golden_queries=golden.queries, held_out_share=trainer.held_out_share)
        parent = students[record.parent] if record.parent in students else students[0]
        _fill(sorter, record, log, parent)
        if number in needed:
            new, again = states.lesson(state, sorter.taken, trainer)
            lesson = [each.example for each in (*new, *again)]
            if (data := fingerprint(lesson)) != record.data:
                raise RebuildError(f"update {number}: expected a lesson {record.data}, the log gives {data}")
            student = saved.load(folder / FIRST)
            student.model.load_state_dict(students[record.parent].model.state_dict())
            learn(
                student,
                lesson,
                settings=update_settings(
                    Students.model_validate(record.settings["students"]), trainer, update=number
                ),
                averaging=trainer.averaging,
                say=say,
            )
            students[number] = student
            say(f"update {number}: learned {len(lesson)} examples again")
        state = states.after(state, sorter.taken, record.outcome, watched=(), trainer=trainer, gate=gate)
    made = students[update]
    trained = Students.model_validate(wanted.settings["students"])
    figures = point_figures(scored_by(made, golden.pairs, bf16=trained.bf16))
    return Rebuilt(
        student=made,
        update=update,
        same=weights_hash(made) == wanted.weights,
        close=all(
            abs(value - wanted.figures[f"golden.{name}"]) <= TOLERANCE for name, value in figures.items()
        ),
        golden=figures,
    )


def kafka_log(consumer: KafkaConsumer) -> Log:
    """Return the log that a consumer reads. It raises RebuildError for what the topic has let go."""

    def values(name: str, begin: int, end: int) -> Mapping[int, bytes | None]:
        topic, _, number = name.rpartition("/")
        partition = TopicPartition(topic, int(number))
        consumer.assign([partition])
        first = consumer.beginning_offsets([partition])[partition]
        last = consumer.end_offsets([partition])[partition]
        if first > begin or last < end:
            raise RebuildError(
                f"{name}: offsets {begin} to {end} are needed, the topic holds {first} to {last}: it has let go of"
                " the rest (retention.ms)"
            )
        consumer.seek(partition, begin)
        found: dict[int, bytes | None] = {}
        while consumer.position(partition) < end:
            for records in consumer.poll(timeout_ms=POLL_MS).values():
                found |= {record.offset: record.value for record in records if record.offset < end}
        return found

    return values


def _fill(sorter: Sorter, record: Lineage, log: Log, parent: LoadedStudent) -> None:
    for name, (begin, end) in record.ranges.items():
        for offset, value in sorted(log(name, begin, end).items()):
            sorter.at(name, offset)
            try:
                sorter.add(read(value, parent.description.scale))
            except RefusedError:
                sorter.taken.refused += 1
    found = sorted(each.identity for each in sorter.taken.new)
    if found != list(record.used):
        raise RebuildError(
            f"update {record.update}: expected the {len(record.used)} judgements that it used, the log holds "
            f"{len(set(found) & set(record.used))} of them and {len(set(found) - set(record.used))} others"
        )
    sorter.taken.offsets = {name: end for name, (_, end) in record.ranges.items()}


def _ancestors(folder: Path, update: int) -> set[int]:
    found: set[int] = set()
    while update:
        found.add(update)
        update = lineages.lineage_of(folder, update).parent
    return found
