"""`relevance students follow`: the incremental trainer in the foreground."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import click

from ops.cli.context import CommandError, Context, pass_context
from ops.cli.students.inputs import EXPECTED, FILE, FOLDER
from ops.endpoints import kafka_address
from ops.kafka import ensure_topics
from ops.settings import load
from streams.topics import TOPICS
from students.incremental.checkpoint import CheckpointError
from students.incremental.lineage import LineageError
from students.incremental.trainer import TrainerError

FOLLOWING = (*EXPECTED, CheckpointError, LineageError, TrainerError)


@click.command(
    epilog="\b\nExamples:\n"
    "  relevance students follow --start runs/first/student --golden golden.jsonl\n"
    "  RELEVANCE_TRAINER__UPDATE_JUDGEMENTS=512 relevance students follow --start runs/first/student \\\n"
    "      --from-version 1 --golden golden.jsonl\n"
    "\n\b\nSettings: sections [trainer] and [gate] of relevance.toml; `relevance settings` lists them."
)
@click.option("--start", type=FOLDER, help="The trained student that the first update goes on from.")
@click.option("--from-version", type=click.IntRange(1), help="Its version, if it is served.")
@click.option("--labels", type=FILE, help="Pairs graded by people that it learned, as JSON lines; replayed.")
@click.option("--golden", type=FILE, help="Pairs graded by people, as JSON lines; never learned from.")
@pass_context
def follow(
    context: Context,
    *,
    start: Path | None,
    from_version: int | None,
    labels: Path | None,
    golden: Path | None,
) -> None:
    """Train on judgements as they come, pass challengers through the gate, publish those that are better.

    Goes on where it stopped, after Ctrl-C or a crash: offsets, weights and replay lie in one checkpoint in the run
    directory. Where a Triton is known a version is served as its kind's challenger, otherwise only exported.
    """
    from ops import trainer_process

    settings = load(
        context.environment(
            {
                "TRAINER__START": start and start.resolve(),
                "TRAINER__START_VERSION": from_version,
                "TRAINER__LABELS": labels and labels.resolve(),
                "GATE__GOLDEN": golden and golden.resolve(),
            }
        )
    )
    bootstrap = kafka_address(settings)
    ensure_topics(settings, bootstrap, TOPICS)
    stop = threading.Event()
    try:
        with _signals_set(stop):
            trainer_process.run(settings, bootstrap, stop=stop, say=click.echo)
    except FOLLOWING as error:
        raise CommandError(str(error)) from error
    click.echo("stopped; the same command goes on from the last checkpoint")


@contextlib.contextmanager
def _signals_set(stop: threading.Event) -> Iterator[None]:
    previous = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
