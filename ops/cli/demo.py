"""`relevance demo`: the whole loop with simulated traffic, watched from the terminal."""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from ops.cli import dashboard_client
from ops.cli.context import CommandError, Context, pass_context, printable
from ops.cli.features import status_lines
from ops.cli.stack_runner import running_stack, stack_options
from ops.endpoints import NotRunningError
from ops.experiments.aggregates import ALL_TRAFFIC
from ops.experiments.report import ExperimentReport, render_text
from ops.experiments.statistics import CTR, CVR, Effect
from ops.settings import Settings

TICK_S = 1.0
LOOK_EVERY_S = 5.0
LOOK_TIMEOUT_S = 2.0


@click.command(
    epilog="\b\nExamples:\n  relevance demo\n  relevance demo --minutes 5\n"
    "  relevance demo --catalogue ../shared/data/esci"
)
@stack_options
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="End by itself after so long.")
@pass_context
def demo(
    context: Context,
    *,
    broker: str | None,
    workers: int | None,
    no_shop: bool,
    catalogue: Path | None,
    minutes: float | None,
) -> None:
    """Start everything with a simulated shop and watch two arms part: CTR and CVR, with how sure it is.

    The control arm is ranked by words in common, the treatment by an oracle with noise.
    """
    with running_stack(context, broker=broker, workers=workers, no_shop=no_shop, catalogue=catalogue) as (
        stack,
        stop,
    ):
        console = context.console
        console.print(f"page        {stack.addresses.dashboard}")
        console.print("Ctrl-C stops" + (f", or {minutes:g} minutes" if minutes else ""))
        began_s = time.monotonic()
        until_s = began_s + minutes * 60 if minutes else float("inf")
        watcher = _Watcher(stack.settings, console, began_s)
        with Live(console=console, refresh_per_second=2, transient=True) as live:
            while not stop.wait(TICK_S) and time.monotonic() < until_s:
                stack.tick()
                live.update(Text(watcher.look(), overflow="ellipsis", no_wrap=True))
        watcher.summarise()


class _Watcher:
    """Asks the page now and then, and tells when it first shows both arms with intervals."""

    def __init__(self, settings: Settings, console: Console, began_s: float) -> None:
        self._settings, self._console, self._began_s = settings, console, began_s
        self._next_s = 0.0
        self._line = "waiting for the first figures"
        self._shown = False
        self._report: ExperimentReport | None = None
        self._features: list[str] = []

    def look(self) -> str:
        now_s = time.monotonic()
        if now_s < self._next_s:
            return f"{now_s - self._began_s:5.0f} s  {self._line}"
        self._next_s = now_s + LOOK_EVERY_S
        try:
            answer = dashboard_client.get(self._settings, "/api/experiment", timeout_s=LOOK_TIMEOUT_S)
        except (CommandError, NotRunningError):
            # A page that is busy or starts anew is asked again; the supervisor tells if it is more than that.
            return f"{now_s - self._began_s:5.0f} s  {self._line} (the page is busy)"
        self._report = msgspec.convert(answer, ExperimentReport)
        self._look_at_features()
        effects = effects_of_all(self._report)
        self._line = status_line(effects)
        if not self._shown and has_intervals(effects):
            self._shown = True
            took_s = now_s - self._began_s
            self._console.print(
                f"the page shows both arms with intervals, {took_s:.0f} s after the stack was up"
            )
        return f"{now_s - self._began_s:5.0f} s  {self._line}"

    def _look_at_features(self) -> None:
        if not self._settings.stack.features:
            return
        try:
            answer = dashboard_client.get(self._settings, "/api/features", timeout_s=LOOK_TIMEOUT_S)
        except (CommandError, NotRunningError):
            # As above: it is asked again with the next report.
            return
        self._features = status_lines(answer["value"], now_ms=time.time() * 1000)

    def summarise(self) -> None:
        """Print the last report that the page gave, and how the feature store was then."""
        if self._report is None:
            self._console.print("no figures yet: the page had none to give")
            return
        for line in (*render_text(self._report).splitlines(), *self._features):
            self._console.print(printable(line))


def effects_of_all(report: ExperimentReport) -> list[Effect]:
    """Return the effects over all traffic, CTR first."""
    return list(report.classes.get(ALL_TRAFFIC, ()))


def has_intervals(effects: list[Effect]) -> bool:
    """Tell whether CTR and CVR are known in both arms, with intervals."""
    known = {effect.metric for effect in effects if effect.estimate is not None}
    return {CTR.name, CVR.name} <= known


def status_line(effects: list[Effect]) -> str:
    """Return one line: the rates by arm, and the difference with its interval once there is one.

    >>> status_line([Effect("ctr", "CTR", 0.051, 0.06, None, "only 3 shoppers")])
    'CTR 5.10% / 6.00% (only 3 shoppers)'
    """
    parts = []
    for effect in effects:
        if effect.metric not in (CTR.name, CVR.name):
            continue
        rates = " / ".join(
            "-" if rate is None else f"{rate:.2%}" for rate in (effect.control, effect.treatment)
        )
        if effect.estimate is None:
            parts.append(f"{effect.title} {rates} ({effect.why_not})")
        else:
            interval = effect.estimate.relative_interval
            parts.append(
                f"{effect.title} {rates}, {effect.estimate.relative:+.1%}"
                f" [{interval.lower:+.1%}, {interval.upper:+.1%}]"
            )
    return "   ".join(parts) or "waiting for the first figures"
