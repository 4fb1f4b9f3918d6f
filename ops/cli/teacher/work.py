"""`relevance teacher work`: has the pairs on `relevance.pairs` judged until Ctrl-C."""

from __future__ import annotations

import signal
import threading

import click

from ops import teacher_process
from ops.cli.context import CommandError, Context, pass_context
from ops.cli.stack_runner import SIGNALS, Progress
from ops.endpoints import kafka_address
from ops.kafka import ensure_topics
from ops.settings import load
from ops.stack.broker_probe import failure
from streams.topics import TOPICS
from teacher.policy import PolicyError


@click.command(
    epilog="\b\nExamples:\n  relevance teacher work\n"
    "  RELEVANCE_KAFKA=kafka-1:9092 RELEVANCE_TEACHER_URL=http://gpu-1:8000/v1 relevance teacher work\n"
    "  relevance teacher work --worker 2 --workers 4"
)
@click.option("--worker", type=click.IntRange(min=1), default=1, help="Which one this is, from 1 [1].")
@click.option("--workers", type=click.IntRange(1, 1024), help="How many share the topic's partitions [1].")
@pass_context
def work(context: Context, *, worker: int, workers: int | None) -> None:
    """Judge what is sampled: pairs from relevance.pairs, judgements to relevance.judgements and the store.

    Worker k of n takes every n-th partition. To scale out start more, all with the same --workers; a worker that
    was killed goes on where it was. A teacher or broker that is away is waited for.
    """
    settings = load(context.environment({"TEACHER_WORKER__WORKERS": workers}))
    if worker > settings.teacher_worker.workers:
        raise click.UsageError(f"--worker {worker} needs --workers {worker} or more")
    bootstrap = kafka_address(settings)
    if reason := failure(settings, bootstrap):
        raise CommandError(
            f"no Kafka answers at {bootstrap}: {reason}; is the stack up (`relevance status`)?"
        )
    ensure_topics(settings, bootstrap, TOPICS)
    stop = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in SIGNALS}
    progress = Progress(context.console)
    try:
        with progress:
            progress.say(f"worker {worker} of {settings.teacher_worker.workers} on {bootstrap}; Ctrl-C stops")
            teacher_process.run(
                settings,
                bootstrap,
                number=worker,
                stop=stop,
                also=lambda now: progress.waiting(teacher_process.detail(now)),
            )
            progress.say("stopped")
    except PolicyError as error:
        raise CommandError(str(error)) from error
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
