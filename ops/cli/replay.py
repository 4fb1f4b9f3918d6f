"""`relevance replay`: send UBI files to Kafka as they are."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from kafka import KafkaProducer
from kafka.errors import KafkaError
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ops import endpoints
from ops.cli.context import CommandError, Context, pass_context, printable
from ops.cli.ubi_files import MAX_LINE_BYTES, Line, UbiFile, classify, topic_by_name
from ops.kafka import ensure_topics, producer
from ops.stack.broker_probe import failure
from streams.topics import TOPICS, UBI_EVENTS, UBI_QUERIES

FLUSH_TIMEOUT_S = 60.0
BATCH_BYTES = 512_000
TOLD_TOO_LONG = 10
UPDATE_EVERY = 500


class Tally:
    """What came of the lines so far."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.unreadable = 0
        self.too_long = 0
        self.other_application = 0
        self.refused = 0
        self.refusal = ""

    def lines(self) -> int:
        """Return how many lines were handed to the producer."""
        return self.sent.total()


@click.command(
    epilog="\b\nExamples:\n  relevance replay queries.jsonl.gz events.jsonl.gz\n"
    "  relevance replay --rate 500 --repeat events.jsonl\n"
    "  relevance replay --topic ubi.events fuzzed.bin"
)
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Lines per second [as fast as it goes]."
)
@click.option("--application", multiple=True, help="Send only records of this application; may be repeated.")
@click.option("--topic", type=click.Choice([UBI_QUERIES, UBI_EVENTS]), help="Send every line to this topic.")
@click.option("--repeat", is_flag=True, help="Begin again at the end, until Ctrl-C.")
@pass_context
def replay(
    context: Context,
    *,
    files: tuple[Path, ...],
    rate: float | None,
    application: tuple[str, ...],
    topic: str | None,
    repeat: bool,
) -> None:
    """Send UBI files (JSON lines, plain or gzip) to Kafka, every line's bytes unchanged.

    Records with an action_name go to ubi.events, others to ubi.queries; the key is their query_id.
    A line that is not JSON is sent too: the stream makes it a dead letter.
    """
    settings = context.settings()
    bootstrap = endpoints.kafka_address(settings)
    for path in files:
        UbiFile(path).close()
    if reason := failure(settings, bootstrap):
        raise CommandError(
            f"no Kafka answers at {bootstrap}: {reason}; is the stack up (`relevance status`)?"
        )
    ensure_topics(settings, bootstrap, TOPICS)
    client = producer(settings, bootstrap, batch_size=BATCH_BYTES, linger_ms=50)
    tally, began_s = Tally(), time.monotonic()
    interrupted = False
    try:
        _send_files(
            context, client, files, tally, rate=rate, wanted=set(application), topic=topic, repeat=repeat
        )
    except KeyboardInterrupt:
        interrupted = True
    finally:
        _finish(client)
    _summary(context, tally, time.monotonic() - began_s)
    if interrupted:
        raise KeyboardInterrupt
    if tally.refused:
        raise CommandError(f"the broker refused {tally.refused} lines; the last reason: {tally.refusal}")


def _send_files(
    context: Context,
    client: KafkaProducer,
    files: tuple[Path, ...],
    tally: Tally,
    *,
    rate: float | None,
    wanted: set[str],
    topic: str | None,
    repeat: bool,
) -> None:
    pace = paced(rate, clock=time.monotonic, sleep=time.sleep)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[speed]:,.0f} lines/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=context.console, disable=not context.console.is_terminal) as progress:
        for lap in itertools.count(1) if repeat else [1]:
            for path in files:
                name = printable(path.name) + (f" (lap {lap})" if lap > 1 else "")
                task = progress.add_task(name, total=path.stat().st_size, speed=0.0)
                file, began_s = UbiFile(path), time.monotonic()
                try:
                    for count, line in enumerate(file):
                        next(pace)
                        _send(context, client, path, line, tally, wanted=wanted, topic=topic)
                        if count % UPDATE_EVERY == 0:
                            speed = count / max(time.monotonic() - began_s, 0.001)
                            progress.update(task, completed=file.position, speed=speed)
                    progress.update(task, completed=file.position)
                finally:
                    file.close()


def _send(
    context: Context,
    client: KafkaProducer,
    path: Path,
    line: Line,
    tally: Tally,
    *,
    wanted: set[str],
    topic: str | None,
) -> None:
    if line.value is None:
        tally.too_long += 1
        if tally.too_long <= TOLD_TOO_LONG:
            context.console.print(
                f"{printable(str(path))}:{line.number}: {line.size:,} bytes, more than the {MAX_LINE_BYTES:,}"
                " that the topic takes; not sent"
            )
        return
    record = classify(line.value, otherwise=topic_by_name(path))
    if wanted and record.application not in wanted:
        tally.other_application += 1
        return

    def refused(error: BaseException) -> None:
        tally.refused += 1
        tally.refusal = f"{type(error).__name__}: {error}"

    chosen = topic or record.topic
    client.send(chosen, value=line.value, key=record.key).add_errback(refused)
    tally.sent[chosen] += 1
    tally.unreadable += not record.readable


def paced(
    rate: float | None, *, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Iterator[None]:
    """Yield `rate` times per second on the whole; without a rate at once, every time."""
    began_s = clock()
    for count in itertools.count():
        if rate is not None:
            ahead_s = count / rate - (clock() - began_s)
            if ahead_s > 0:
                sleep(ahead_s)
        yield


def _finish(client: KafkaProducer) -> None:
    try:
        client.flush(timeout=FLUSH_TIMEOUT_S)
    except KafkaError as error:
        raise CommandError(f"not every line was taken within {FLUSH_TIMEOUT_S:g} s: {error}") from error
    finally:
        client.close(timeout=5)


def _summary(context: Context, tally: Tally, took_s: float) -> None:
    for topic, count in sorted(tally.sent.items()):
        context.console.print(f"{topic:<14} {count:>10,} lines")
    notes = (
        (tally.unreadable, "of them are not JSON objects: the stream makes them dead letters"),
        (tally.too_long, f"not sent: longer than {MAX_LINE_BYTES:,} bytes"),
        (tally.other_application, "not sent: of another application"),
    )
    for count, text in notes:
        if count:
            context.console.print(f"{count:>25,} {text}")
    speed = tally.lines() / max(took_s, 0.001)
    context.console.print(f"sent {tally.lines():,} lines in {took_s:.1f} s ({speed:,.0f} lines/s)")
