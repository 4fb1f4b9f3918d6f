"""The trainer: `relevance.judgements` from Kafka, update after update, until it is stopped.

What it has consumed stands in its checkpoint and nowhere else: it starts at the offsets of the latest whole one, so a
judgement whose update was not saved is read again, and one whose update was is not. The group's offsets in Kafka only
show its lag. One trainer follows the topic for one kind of student.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from kafka import KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from ops.batch_loop import CONSUMER_OPTIONS, BatchLoop, line
from ops.kafka import consumer as open_consumer
from ops.kafka import producer as open_producer
from ops.settings import Settings
from streams.dead_letters import DeadLetter
from streams.topics import JUDGEMENTS
from students import saved
from students.examples import read_labelled
from students.export.fidelity import FidelityLimits
from students.grades import GradeScale
from students.incremental import checkpoint as checkpoints
from students.incremental import lineage as lineages
from students.incremental import state as states
from students.incremental.checkpoint import Checkpoint
from students.incremental.golden import Golden, read_golden
from students.incremental.judged import RefusedError, dead_letter, read
from students.incremental.outbox import AwayError, Outbox
from students.incremental.progress import Progress
from students.incremental.sending import send_letters, send_rows
from students.incremental.state import Sorter, State
from students.incremental.updating import Updater
from students.publishing.publisher import now_ms

logger = logging.getLogger(__name__)

#: Between tries to deliver a champion, or to announce it, while the other side is away.
DELIVER_EVERY_S = 5.0
#: With no record for so long all that waited has been read: a poll of a backlog gives hundreds at once.
CAUGHT_UP_S = 0.5
#: `relevance students accept` leaves it in the folder; the next update takes the quarantined judgements in.
ACCEPT = "accept"


class TrainerError(RuntimeError):
    """The trainer cannot begin. The message says what is missing."""


class _StoppedError(Exception):
    """The trainer was told to stop in the middle of an update."""


def folder_of(settings: Settings) -> Path:
    """Return where checkpoints, lineage and the first student lie."""
    return settings.run_dir.expanduser().absolute() / "students" / "trainer"


def begin(settings: Settings, say: Callable[[str], None]) -> Checkpoint:
    """Return what to go on from: the latest whole checkpoint, or the first one, of `trainer.start`.

    Raises TrainerError without a student to start from, ExampleError for `trainer.labels` or a golden set that is
    none, StudentFolderError, CheckpointError, LineageError, OSError.
    """
    folder = folder_of(settings)
    found = checkpoints.newest(folder, say)
    if found is None:
        if settings.trainer.start is None:
            raise TrainerError(
                "expected trainer.start to name a trained student, such as runs/first/student of"
                " `relevance students train`"
            )
        student = saved.load(settings.trainer.start)
        found = Checkpoint(_begun(settings, student.description.scale), None, student, student)
        checkpoints.begin_with(folder, found)
        checkpoints.write(folder, found, keep=settings.trainer.checkpoints)
    lineages.supersede_after(folder, found.state.update)
    if found.lineage is not None:
        lineages.write(folder, found.lineage)
    return found


def _begun(settings: Settings, scale: GradeScale) -> State:
    trainer, golden = settings.trainer, settings.gate.golden
    if trainer.labels is None:
        return State()
    return states.begun(
        read_labelled(trainer.labels, scale),
        scale,
        golden=read_golden(golden, scale).queries if golden else (),
        share=trainer.held_out_share,
    )


def run_trainer(
    settings: Settings,
    bootstrap: str,
    *,
    stop: threading.Event,
    on_progress: Callable[[Progress], None],
    fidelity: FidelityLimits | None = None,
) -> None:
    """Follow the topic until `stop` is set. The topics must exist.

    `on_progress` is called in this thread, about ten times a second, once a second in an update. While the disk is
    full or broker or server are away the trainer tries again for ever and says so in `Progress.trouble`. Raises
    TrainerError, StudentFolderError, CheckpointError, LineageError, ExampleError for a golden set that is none,
    KafkaError if the broker refuses for good.
    """
    if settings.gate.golden is None:
        raise TrainerError(
            "expected gate.golden to name pairs graded by people: without them nothing is published"
        )
    progress = Progress()

    def say(text: str) -> None:
        logger.info("%s", text)

    before = begin(settings, say)
    golden = read_golden(settings.gate.golden, before.champion.description.scale)
    records = open_consumer(settings, bootstrap, group_id=settings.trainer.group, **CONSUMER_OPTIONS)
    producer = open_producer(settings, bootstrap)
    try:
        batch = _Batch(
            settings,
            before,
            golden=golden,
            producer=producer,
            stop=stop,
            progress=progress,
            report=lambda: on_progress(progress),
            fidelity=fidelity,
        )
        BatchLoop(
            batch,
            topics=(JUDGEMENTS,),
            consumer=records,
            write_within_s=settings.trainer.update_within_s,
            retry_on=(OSError, KafkaError),
            progress=progress,
            on_progress=on_progress,
            stop=stop,
        ).run()
    finally:
        producer.close(timeout=5)
        records.close(autocommit=False, timeout_ms=5000)


class _Batch:
    """Judgements that no checkpoint holds yet."""

    def __init__(
        self,
        settings: Settings,
        before: Checkpoint,
        *,
        golden: Golden,
        producer: KafkaProducer,
        stop: threading.Event,
        progress: Progress,
        report: Callable[[], None],
        fidelity: FidelityLimits | None,
    ) -> None:
        self._settings, self._producer, self._stop = settings, producer, stop
        self._progress, self._report = progress, report
        self._folder = folder_of(settings)
        self._before = before
        self._made: Checkpoint | None = None
        self._letters: list[DeadLetter] = []
        self._updater = Updater(settings, golden, clock_ms=now_ms)
        self._outbox = Outbox(settings, self._folder, golden, now_ms, fidelity)
        self._sorter = Sorter(
            before.state, golden_queries=golden.queries, held_out_share=settings.trainer.held_out_share
        )
        self._deliver_at_s = 0.0
        self._taken_at_s = 0.0
        self._announced = False
        # The row of the last update may not have been sent before a crash; sent again it replaces itself.
        self._row_waits = before.lineage is not None
        progress.champion, progress.update = before.state.champion, before.state.update

    def start_at(self, partition: TopicPartition) -> int | None:
        """Start where the checkpoint ends; the beginning where it has nothing."""
        return self._before.state.offsets.get(f"{partition.topic}/{partition.partition}", 0)

    def take(self, record: ConsumerRecord) -> None:
        """Take a record in."""
        self._progress.records += 1
        self._taken_at_s = time.monotonic()
        self._sorter.at(f"{record.topic}/{record.partition}", record.offset)
        try:
            judged = read(record.value, self._before.champion.description.scale)
        except RefusedError as error:
            self._sorter.taken.refused += 1
            self._letters.append(dead_letter(record, error, at_ms=now_ms()))
        else:
            self._sorter.add(judged)

    def is_full(self) -> bool:
        """Tell whether there is enough for an update, and no more of it waiting in the topic.

        What came during the last update is learned in the next one: else a trainer that once fell behind stays so.
        """
        taken, trainer = len(self._sorter.taken.judged), self._settings.trainer
        if taken < trainer.update_judgements:
            return False
        return taken >= trainer.most_new or time.monotonic() - self._taken_at_s >= CAUGHT_UP_S

    def write(self) -> None:
        """Make an update and save it, if there is enough for one; what went well is not repeated."""
        if self._letters:
            send_letters(self._producer, self._letters)
            self._progress.dead_letters += len(self._letters)
            self._letters = []
        if self._stop.is_set():
            return
        if self._made is None:
            self._made = self._updated()
        if self._made is None:
            return
        checkpoints.write(self._folder, self._made, keep=self._settings.trainer.checkpoints)
        self._adopt(self._made)

    def rest(self) -> None:
        """Deliver the champion, send what waits to be sent; while the other side is away, now and then."""
        if time.monotonic() < self._deliver_at_s:
            return
        self._deliver_at_s = time.monotonic() + DELIVER_EVERY_S
        try:
            if self._outbox.waiting(self._before.state.champion):
                self._deliver()
            if not self._announced:
                self._announced = self._outbox.announce()
            if self._row_waits:
                self._send_row()
        except (AwayError, KafkaError, OSError) as error:
            self._progress.doing = line(error)
            logger.warning("%s; tried again later", line(error))

    def _updated(self) -> Checkpoint | None:
        """Return the checkpoint that follows from what was taken, None if there is too little to update."""
        taken, trainer = self._sorter.taken, self._settings.trainer
        if len(taken.judged) < min(trainer.least_judgements, trainer.update_judgements):
            return None
        accept = (self._folder / ACCEPT).exists()
        try:
            made = self._updater.update(self._before, taken, accept=accept, say=self._going_on)
        except _StoppedError:
            return None
        return self._numbered(made)

    def _numbered(self, made: Checkpoint) -> Checkpoint:
        state = msgspec.structs.replace(made.state, saved=self._before.state.saved + 1)
        return Checkpoint(state, made.lineage, made.champion, made.previous)

    def _going_on(self, text: str) -> None:
        if self._stop.is_set():
            raise _StoppedError
        self._progress.doing = text
        self._report()

    def _adopt(self, made: Checkpoint) -> None:
        lineage = made.lineage
        assert lineage is not None
        lineages.write(self._folder, lineage)
        if lineage.accepted:
            (self._folder / ACCEPT).unlink(missing_ok=True)
        self._before, self._made = made, None
        self._progress.doing = ""
        self._progress.count(lineage, champion=made.state.champion)
        self._sorter.next()
        self._row_waits = True
        self._deliver_at_s = 0.0
        logger.info("update %d %s: %s", lineage.update, lineage.outcome, lineage.why)

    def _deliver(self) -> None:
        self._progress.doing = f"delivers update {self._before.state.champion}"
        self._report()
        found = self._outbox.deliver(self._before)
        self._progress.doing = ""
        self._announced = False
        self._row_waits = True
        logger.info("update %d is %s: %s", found.update, found.step, found.why)
        if found.step == "published":
            self._progress.published += 1
        elif found.step == "refused":
            before = self._before
            back = Checkpoint(
                states.taken_back(before.state), before.lineage, before.previous, before.previous
            )
            back = self._numbered(back)
            checkpoints.write(self._folder, back, keep=self._settings.trainer.checkpoints)
            self._before = back
            self._progress.refused_by_serving += 1
            self._progress.champion = back.state.champion

    def _send_row(self) -> None:
        for update in sorted({self._before.state.update, self._before.state.champion} - {0}):
            published = lineages.published_of(self._folder, update)
            send_rows(
                self._producer,
                "student_updates",
                [lineages.row_of(lineages.lineage_of(self._folder, update), published)],
            )
        self._row_waits = False
