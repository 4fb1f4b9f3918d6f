"""`relevance serve`: Triton with the published students, kept running until Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

import click

from ops.cli.context import CommandError, Context, pass_context
from ops.cli.stack_runner import SIGNALS, Progress
from ops.settings import load


@click.command(
    epilog="\b\nExamples:\n  relevance serve\n  relevance serve --prepare\n"
    "  RELEVANCE_SERVING__PRECISION=fp32 relevance serve --port 18201"
)
@click.option("--port", type=click.IntRange(1, 65535), help="Where gRPC listens, if it is free [18101].")
@click.option("--prepare", is_flag=True, help="Make the serving environment and end.")
@pass_context
def serve(context: Context, *, port: int | None, prepare: bool) -> None:
    """Start Triton, make its environment first if need be, and keep it and all its models running.

    A server that dies is started again, a version whose process dies is loaded again, versions that no arm uses any
    more are retired after `serving.retire_after_s`. Students come to it with `relevance students publish`.
    """
    from ops.servers.keeping import ServerError
    from ops.servers.steps import PreparationError, StoppedError
    from ops.servers.voice import Voice
    from ops.serving import server
    from ops.serving.environment import ensure_environment

    settings = load(context.environment({"TRITON_SERVER__PORT": port}))
    stop = threading.Event()
    progress = Progress(context.console)
    with _signals_set(stop), progress:
        try:
            if prepare:
                ensure_environment(settings.triton_server, say=progress.say, stop=stop)
                return
            server.serve(settings, stop=stop, voice=Voice(say=progress.say, waiting=progress.waiting))
        except StoppedError as error:
            progress.say(str(error))
            raise click.Abort from error
        except (PreparationError, ServerError) as error:
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
