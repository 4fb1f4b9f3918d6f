"""Running the local stack in the foreground, for `up` and `demo`: signals, progress lines, a clean stop."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.status import Status

from ops.cli.context import CommandError, Context, printable
from ops.servers.keeping import ServerError
from ops.servers.steps import PreparationError
from ops.servers.steps import StoppedError as PreparationStoppedError
from ops.settings import PREFIX, Settings, load
from ops.stack import leftovers, servers
from ops.stack.local_stack import LocalStack, StoppedError, StopRequest

#: Makes what the stack needs before it starts; returns further settings by name, as `Context.environment` takes them.
#: Gets the settings, the environment they came from, where progress goes, and the event that Ctrl-C sets.
Prepare = Callable[[Settings, Mapping[str, str], Callable[[str], None], StopRequest], Mapping[str, object]]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stack_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose what the stack is made of."""
    options = (
        click.option(
            "--broker",
            type=click.Choice(["embedded", "apache"]),
            help="Kafka broker: the embedded one, or the Apache Kafka in KAFKA_HOME.",
        ),
        click.option("--workers", type=click.IntRange(1, 64), help="Number of streams workers."),
        click.option("--no-shop", is_flag=True, help="Start without simulated traffic."),
        click.option(
            "--catalogue",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="Folder of a real catalogue with judged queries, instead of the generated one.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@contextlib.contextmanager
def running_stack(
    context: Context,
    *,
    broker: str | None,
    workers: int | None,
    no_shop: bool,
    catalogue: Path | None,
    defaults: Mapping[str, object] | None = None,
    prepare: Prepare | None = None,
) -> Iterator[tuple[LocalStack, StopRequest]]:
    """Start the stack, yield it with the event that Ctrl-C sets, and stop it.

    `defaults` are settings by name that options go before.
    """
    environment = context.environment(
        {
            **(defaults or {}),
            **_given(
                STACK__BROKER=broker,
                STACK__WORKERS=workers,
                SHOP__CATALOGUE=catalogue.resolve() if catalogue else None,
            ),
        }
    )
    settings = load(environment)
    stop = StopRequest()
    progress = Progress(context.console)
    began_s = time.monotonic()
    with _signals(stop, settings.run_dir), progress:
        try:
            servers.prepare(settings, stop=stop, say=progress.say)
            if prepare is not None:
                environment |= _variables(prepare(settings, environment, progress.say, stop))
                settings = load(environment)
        except PreparationStoppedError as error:
            raise StoppedError(str(error)) from error
        except (PreparationError, ServerError) as error:
            raise CommandError(str(error)) from error
        stack = LocalStack(
            settings,
            environment=environment,
            stop=stop,
            say=progress.say,
            waiting=progress.waiting,
            shop=not no_shop,
        )
        with stack:
            progress.done()
            progress.say(f"{'stack':<11} ready  {time.monotonic() - began_s:5.1f} s   {settings.run_dir}")
            try:
                yield stack, stop
            finally:
                began_s = stop.at_s or time.monotonic()
                progress.say("stopping (Ctrl-C again kills at once)")
        progress.say(f"stopped in {time.monotonic() - began_s:.1f} s; state is kept in {settings.run_dir}")


def _given(**options: object) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _variables(more: Mapping[str, object]) -> dict[str, str]:
    return {f"{PREFIX}{name}": str(value) for name, value in more.items()}


@contextlib.contextmanager
def _signals(stop: StopRequest, run_dir: Path) -> Iterator[None]:
    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            for pid in leftovers.find(run_dir):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        stop.set()

    previous = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Progress:
    """One line that changes while something is awaited, above it the lines that are done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *details: object) -> None:
        self.done()

    def say(self, line: str) -> None:
        # The stack must stop cleanly even if its terminal has gone.
        with contextlib.suppress(OSError):
            for part in line.splitlines():
                self._console.print(printable(part))

    def waiting(self, line: str) -> None:
        if not self._console.is_terminal:
            return
        with contextlib.suppress(OSError):
            if self._status is None:
                self._status = self._console.status("")
                self._status.start()
            self._status.update(printable(line))

    def done(self) -> None:
        if self._status is not None:
            with contextlib.suppress(OSError):
                self._status.stop()
            self._status = None
