"""Kill every part of a loop that runs, keep the teacher away, and tell what became of serving and of judgements.

    relevance demo --minutes 30 &                                    # in one terminal
    python -m ops.bench.loop_faults [--rest 20] [--away 300]         # in another, with the same run directory

Each part in turn gets SIGKILL with all that it started; how long until another process of it says `ready` is printed.
Then the teacher's server, the last one, is killed again and again for --away seconds. All the while a client asks for
scores as the ad engine does, and every answer is counted: by a student, or by the client's fallback. At the end the
topic of judgements is held against the trainer's records: whether the offsets that updates took leave no gap, whether
a judgement was used twice, whether one was left out. Judgements of golden queries, which only guards see, do not
count. `relevance students rebuild` then makes a version again from the log.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import click
from kafka import KafkaConsumer, TopicPartition

from ops import heartbeat
from ops.bench.demo_run import settings_of_demo
from ops.bench.machine import announce
from ops.bench.serving_setup import percentiles
from ops.cli.context import Context
from ops.endpoints import kafka_address
from ops.kafka import consumer
from ops.loop.cold_start import cache_folder, of_run
from ops.scoring.client import Candidate, ScoringClient
from ops.scoring.following import RouteFollower
from ops.scoring.scorer import ScoringLoop, text_of
from ops.scoring.vectors import VectorTables
from ops.settings import Settings
from ops.shop.shop import open_shop
from ops.stack.plan import TEACHER_SERVER
from ops.stack.supervision import Supervisor, SupervisorError, socket_path
from ops.stack.watch import is_ready
from streams.item_text import query_text
from streams.topics import JUDGEMENTS
from students.grades import GradeScale
from students.incremental.golden import read_golden
from students.incremental.judged import RefusedError, read
from students.incremental.lineage import Lineage, records_of
from students.incremental.rebuild import kafka_log
from students.incremental.trainer import folder_of
from students.publishing.repository import versions_of
from students.saved import load as load_student

BROKER = "broker"
CANDIDATES = 10
#: A part that is not back by then is told, and the next one is killed.
BACK_WITHIN_S = 400.0
LOOK_EVERY_S = 0.5

Place = tuple[str, int]


@dataclass
class Answers:
    """What the probing client saw."""

    sources: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def since(self, before: Answers) -> str:
        """Return what came after a copy was taken."""
        sources = self.sources - before.sources
        told = ", ".join(f"{name} {count}" for name, count in sorted(sources.items()))
        errors = len(self.errors) - len(before.errors)
        return f"{sources.total()} queries ({told}), {errors} failed"

    def copy(self) -> Answers:
        """Return the state of the moment."""
        return Answers(Counter(self.sources), list(self.latencies_ms), list(self.errors))


@contextlib.contextmanager
def asking(settings: Settings, *, per_s: float) -> Iterator[Answers]:
    """Ask for scores of both arms in turn, at a steady rate, until left."""
    shop = open_shop(settings.shop)
    items = [Candidate(each.item_id, text_of(each)) for each in list(shop.items.values())[:2_000]]
    queries = [query_text(each.text) for each in shop.queries]
    tables = VectorTables(versions_of(settings))
    seen, stop = Answers(), threading.Event()

    def ask(loop: ScoringLoop) -> None:
        turn = 0
        while not stop.wait(1 / per_s):
            turn += 1
            start = turn * CANDIDATES % (len(items) - CANDIDATES)
            began_s = time.monotonic()
            try:
                found = loop.score(
                    queries[turn % len(queries)], items[start : start + CANDIDATES], treatment=bool(turn % 2)
                )
            except TimeoutError as error:
                # An ad engine would have waited in vain. Anything else ends the bench.
                seen.errors.append(repr(error))
                continue
            seen.latencies_ms.append((time.monotonic() - began_s) * 1000)
            seen.sources["the fallback" if found.fallback else "a student"] += 1

    with RouteFollower(settings, kafka_address(settings), prepare=tables.prepare) as routes:

        def make() -> ScoringClient:
            return ScoringClient(
                settings,
                routes=routes,
                vectors=tables,
                lexical=lambda query, candidates: [0.5] * len(candidates),
            )

        with ScoringLoop(settings, make) as loop, ThreadPoolExecutor(1) as executor:
            working = executor.submit(ask, loop)
            try:
                yield seen
            finally:
                stop.set()
            working.result()


def pid_of(supervisor: Supervisor, part: str) -> int:
    """Return a part's process, 0 for none or if the supervisor is busy."""
    with contextlib.suppress(SupervisorError, KeyError):
        return supervisor.processes()[part].pid
    return 0


def back_after_s(settings: Settings, supervisor: Supervisor, part: str, *, other_than: int) -> float | None:
    """Return how long it took until another process of a part is ready, None if it does not come."""
    began_s = time.monotonic()
    while (took_s := time.monotonic() - began_s) < BACK_WITHIN_S:
        with contextlib.suppress(SupervisorError, KeyError):
            process = supervisor.processes()[part]
            sign = heartbeat.read(settings.run_dir, part)
            if process.pid != other_than and is_ready(process, sign, own_heartbeat=part != BROKER):
                return took_s
        time.sleep(LOOK_EVERY_S)
    return None


def log_of(reading: KafkaConsumer) -> dict[Place, bytes | None]:
    """Return the topic of judgements by ("topic/partition", offset). Raises RebuildError if it has let go of some."""
    partitions = [
        TopicPartition(JUDGEMENTS, number) for number in reading.partitions_for_topic(JUDGEMENTS) or ()
    ]
    values = kafka_log(reading)
    found: dict[Place, bytes | None] = {}
    for partition, end in reading.end_offsets(partitions).items():
        name = f"{partition.topic}/{partition.partition}"
        found |= {(name, offset): value for offset, value in values(name, 0, end).items()}
    return found


@dataclass(frozen=True, slots=True)
class Account:
    """Counts of judgements: in the topic, taken by updates, used by two updates, passed over by all."""

    in_topic: int
    repeated: int
    waiting: int
    taken: int
    twice: int
    left_out: int
    gaps: int

    def __str__(self) -> str:
        return (
            f"{self.in_topic} judgements in the topic, {self.repeated} of them repetitions; {self.taken} taken by "
            f"updates, {self.waiting} wait for the next; offsets {self.gaps} gaps; used twice {self.twice}, left out "
            f"{self.left_out}"
        )


def account(
    records: Sequence[Lineage],
    log: Mapping[Place, bytes | None],
    *,
    scale: GradeScale,
    golden: frozenset[str],
) -> Account:
    """Hold the records of updates against the topic. Refused records and golden queries count in no class."""
    ends: dict[str, int] = {}
    gaps = 0
    for each in records:
        for name, (begin, end) in each.ranges.items():
            gaps += begin != ends.get(name, begin)
            ends[name] = end
    taken = Counter(identity for each in records for identity in (*each.used, *each.held_out))
    met: Counter[str] = Counter()
    waiting: set[str] = set()
    for (name, offset), value in sorted(log.items()):
        try:
            judged = read(value, scale)
        except RefusedError:
            continue
        if judged.example.query in golden:
            continue
        met[judged.identity] += 1
        if offset >= ends.get(name, 0):
            waiting.add(judged.identity)
    waiting -= taken.keys()
    return Account(
        in_topic=met.total(),
        repeated=met.total() - len(met),
        waiting=len(waiting),
        taken=len(taken),
        twice=sum(count > 1 for count in taken.values()),
        left_out=len(met.keys() - taken.keys() - waiting),
        gaps=gaps,
    )


def kill_each(
    settings: Settings, supervisor: Supervisor, seen: Answers, parts: Sequence[str], *, rest_s: float
) -> list[tuple[str, str, str]]:
    """Kill one part after the other; return rows of part, seconds until it was back, what queries got meanwhile."""
    rows = []
    for part in parts:
        before, pid = seen.copy(), pid_of(supervisor, part)
        supervisor.kill(part)
        took_s = back_after_s(settings, supervisor, part, other_than=pid)
        told = "not back" if took_s is None else f"{took_s:.1f}"
        rows.append((part, told, seen.since(before)))
        click.echo(f"{part} killed: back after {told} s; {rows[-1][2]}")
        time.sleep(rest_s)
    return rows


def keep_away(settings: Settings, supervisor: Supervisor, seen: Answers, *, away_s: float) -> None:
    """Kill the teacher's server whenever it runs, for so long; print what went on and when it judged again."""
    before, updates = seen.copy(), len(records_of(folder_of(settings)))
    until_s = time.monotonic() + away_s
    kills = 0
    while time.monotonic() < until_s:
        if pid := pid_of(supervisor, TEACHER_SERVER):
            with contextlib.suppress(SupervisorError):
                supervisor.kill(TEACHER_SERVER)
                kills += 1
        time.sleep(5)
    click.echo(f"teacher away for {away_s:.0f} s ({kills} kills); {seen.since(before)}")
    took_s = back_after_s(settings, supervisor, TEACHER_SERVER, other_than=pid)
    told = "not back" if took_s is None else f"ready {took_s:.0f} s after"
    click.echo(f"teacher {told}; {len(records_of(folder_of(settings))) - updates} updates meanwhile")


@click.command(help=__doc__)
@click.option("--rest", "rest_s", default=20.0, show_default=True, type=click.FloatRange(0), help="Seconds.")
@click.option("--away", "away_s", default=300.0, show_default=True, type=click.FloatRange(0), help="Seconds.")
@click.option(
    "--last", "last_s", default=180.0, show_default=True, type=click.FloatRange(0), help="Watched on."
)
@click.option("--per-s", default=2.0, show_default=True, type=click.FloatRange(0.1), help="Queries.")
def main(*, rest_s: float, away_s: float, last_s: float, per_s: float) -> None:
    """Kill, watch, account."""
    announce("ops.bench.loop_faults")
    settings = settings_of_demo()
    supervisor = Supervisor(socket_path(settings.run_dir))
    try:
        # The broker last: where it is the embedded one, it alone may lose what it acknowledged in its last second.
        parts = sorted(supervisor.processes(), key=lambda name: name == BROKER)
        parts = [name for name in parts if name != TEACHER_SERVER or not away_s]
    except SupervisorError as error:
        raise click.ClickException(f"no stack runs in {settings.run_dir}: {error}") from error
    began = records_of(folder_of(settings))
    with asking(settings, per_s=per_s) as seen:
        rows = kill_each(settings, supervisor, seen, parts, rest_s=rest_s)
        if away_s:
            keep_away(settings, supervisor, seen, away_s=away_s)
        time.sleep(last_s)
    click.echo("")
    Context().table(["killed", "back after s", "meanwhile"], rows)
    click.echo(f"all: {seen.since(Answers())}; {percentiles(seen.latencies_ms)}")
    for error_text in seen.errors[:3]:
        click.echo(f"  {error_text}")
    cold = of_run(settings.run_dir, cache_folder())
    scale = load_student(cold.student).description.scale
    records = records_of(folder_of(settings))
    passed = sum(each.outcome == "passed" for each in records[len(began) :])
    click.echo(f"updates since the first kill: {len(records) - len(began)}, {passed} passed the gate")
    with contextlib.closing(consumer(settings, kafka_address(settings))) as reading:
        log = log_of(reading)
    click.echo(str(account(records, log, scale=scale, golden=read_golden(cold.golden, scale).queries)))


if __name__ == "__main__":
    main()
