"""`relevance teacher serve`: vLLM with the teacher's model, kept running until Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

import click

from ops.cli.context import CommandError, Context, pass_context
from ops.cli.stack_runner import SIGNALS, Progress
from ops.servers.keeping import ServerError
from ops.servers.steps import PreparationError, StoppedError
from ops.servers.voice import Voice
from ops.settings import load
from teacher.probe import ProbeError
from teacher.serving import server


@click.command(
    epilog="\b\nExamples:\n  relevance teacher serve\n"
    "  relevance teacher serve --device cuda --model Qwen/Qwen2.5-7B-Instruct\n"
    "  RELEVANCE_TEACHER_SERVER__TENSOR_PARALLEL=2 relevance teacher serve --device cuda --model /models/teacher-7b"
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="What vLLM runs on [cpu].")
@click.option("--model", help="Model folder or hub name; without it the small model of the project.")
@click.option("--port", type=click.IntRange(1, 65535), help="Where to listen, if it is free [18000].")
@click.option("--base", is_flag=True, help="The small model as it comes, without the project's fine-tuning.")
@click.option("--prepare", is_flag=True, help="Only make environment and weights, so that a start is quick.")
@pass_context
def serve(
    context: Context, *, device: str | None, model: str | None, port: int | None, base: bool, prepare: bool
) -> None:
    """Start vLLM, make its environment and weights first if need be, and keep it running.

    It is restarted when it dies or hangs, and ended with all its processes on Ctrl-C. Further options of the
    server are settings: `relevance settings` lists them under teacher_server.
    """
    settings = load(
        context.environment(
            {
                "TEACHER_SERVER__DEVICE": device,
                "TEACHER_SERVER__MODEL": model,
                "TEACHER_SERVER__PORT": port,
                "TEACHER_SERVER__BASE": base or None,
            }
        )
    )
    stop = threading.Event()
    progress = Progress(context.console)
    with _signals_set(stop), progress:
        try:
            if prepare:
                _, ready = server.prepare(settings, stop=stop, say=progress.say)
                progress.say(f"ready to serve {ready}")
                return
            voice = Voice(say=progress.say, waiting=progress.waiting)
            server.serve(settings, stop=stop, voice=voice)
        except StoppedError as error:
            progress.say(str(error))
            raise click.Abort from error
        except (PreparationError, ProbeError, ServerError) as error:
            raise CommandError(str(error)) from error
        progress.say("stopped")


@contextlib.contextmanager
def _signals_set(stop: threading.Event) -> Iterator[None]:
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
