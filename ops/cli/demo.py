"""`relevance demo`: the whole loop with simulated traffic, watched from the terminal; `--light` without students."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from ops.cli import dashboard_client
from ops.cli.context import CommandError, Context, pass_context, printable
from ops.cli.features import status_lines
from ops.cli.stack_runner import running_stack, stack_options
from ops.dashboard.loop_view import LoopOverview
from ops.endpoints import NotRunningError
from ops.experiments.aggregates import ALL_TRAFFIC
from ops.experiments.report import ExperimentReport, render_text
from ops.experiments.statistics import CTR, CVR, Effect
from ops.loop.cold_start import ColdStartError, cache_folder, of_run
from ops.loop.demo_settings import demo_settings, has_teacher, light_settings, settings_of
from ops.loop.evaluation import Gain, compare
from ops.loop.preparation import prepare
from ops.loop.progress import loop_line
from ops.loop.summary import summary, version_line
from ops.settings import Settings
from students.publishing.repository import versions_of

TICK_S = 1.0
LOOK_EVERY_S = 5.0
LOOK_TIMEOUT_S = 2.0


@click.command(
    epilog="\b\nExamples:\n  relevance demo\n  relevance demo --minutes 20\n  relevance demo --light\n"
    "  relevance demo --catalogue ../shared/data/esci"
)
@stack_options
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="End by itself after so long.")
@click.option("--light", is_flag=True, help="No students and no teacher: two plain scorers part.")
@click.option("--fast", is_flag=True, help="The shop's clock runs three times as fast as the wall's.")
@click.option("--base", is_flag=True, help="The teacher's small model as it comes, without fine-tuning.")
@pass_context
def demo(
    context: Context,
    *,
    broker: str | None,
    workers: int | None,
    no_shop: bool,
    catalogue: Path | None,
    minutes: float | None,
    light: bool,
    fast: bool,
    base: bool,
) -> None:
    """Start everything with a simulated shop and watch it get better: versions, judgements, CTR and CVR.

    Students that were trained on a few labels score both arms. The teacher judges what they are worst at, new
    versions pass the gate and score the treatment arm, the first ones stay in control. With --light control is ranked
    by words in common, the treatment by an oracle with noise.
    """
    if light and base:
        raise click.UsageError("--base is about the teacher, which --light does without")
    given = context.settings()
    real = catalogue is not None or given.shop.catalogue is not None
    chosen = light_settings(given, fast=fast)
    if not light:
        chosen = demo_settings(given, fast=fast, base=base or not has_teacher(given), real=real)
    with running_stack(
        context,
        broker=broker,
        workers=workers,
        no_shop=no_shop,
        catalogue=catalogue,
        defaults=chosen,
        prepare=None if light else _first_students,
    ) as (stack, stop):
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
    # The parts have stopped: the last comparison has the cores for itself.
    watcher.summarise()


def _first_students(
    settings: Settings, environment: Mapping[str, str], say: Callable[[str], None], stop: threading.Event
) -> Mapping[str, object]:
    try:
        return settings_of(prepare(settings, environment, say=say, stop=stop))
    except ColdStartError as error:
        raise CommandError(str(error)) from error


class _Watcher:
    """Asks the page now and then, and tells when it first shows both arms with intervals."""

    def __init__(self, settings: Settings, console: Console, began_s: float) -> None:
        self._settings, self._console, self._began_s = settings, console, began_s
        self._next_s = 0.0
        self._line = "waiting for the first figures"
        self._shown = False
        self._promoted = ""
        self._report: ExperimentReport | None = None
        self._loop: LoopOverview | None = None
        self._features: list[str] = []

    def look(self) -> str:
        """Return the line of the moment; the page is asked every few seconds."""
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + LOOK_EVERY_S
            self._ask(now_s)
        return f"{now_s - self._began_s:5.0f} s  {self._line}"

    def _ask(self, now_s: float) -> None:
        parts = []
        if self._settings.stack.loop and (answer := self._answer("/api/loop")) is not None:
            self._loop = msgspec.convert(answer["value"], LoopOverview)
            self._tell_promotion(now_s)
        if self._loop is not None:
            parts.append(loop_line(self._loop))
        if (answer := self._answer("/api/experiment")) is not None:
            self._report = msgspec.convert(answer, ExperimentReport)
        if self._report is not None:
            effects = effects_of_all(self._report)
            parts.append(status_line(effects))
            self._tell_intervals(effects, now_s)
        if self._settings.stack.features and (answer := self._answer("/api/features")) is not None:
            self._features = status_lines(answer["value"], now_ms=time.time() * 1000)
        self._line = "   ".join(parts) or self._line

    def _answer(self, path: str) -> Any:
        """Return the page's answer, None from one that is busy or starts anew: it is asked again."""
        try:
            return dashboard_client.get(self._settings, path, timeout_s=LOOK_TIMEOUT_S)
        except (CommandError, NotRunningError):
            # The supervisor tells if it is more than that.
            return None

    def _tell_intervals(self, effects: list[Effect], now_s: float) -> None:
        if not self._shown and has_intervals(effects):
            self._shown = True
            took_s = now_s - self._began_s
            self._console.print(
                f"the page shows both arms with intervals, {took_s:.0f} s after the stack was up"
            )

    def _tell_promotion(self, now_s: float) -> None:
        assert self._loop is not None
        version = next((each for each in self._loop.versions if each.arm == "treatment"), None)
        name = version.name if version else ""
        if name == self._promoted:
            return
        self._promoted = name
        told = version_line(version) if version else "the treatment is rolled back to the first student"
        self._console.print(printable(f"{now_s - self._began_s:5.0f} s  {told}"))

    def summarise(self) -> None:
        """Print what the page gave last: for the loop what improved and how sure that is, for both the experiment's
        report and how the feature store was."""
        if self._report is None:
            self._console.print("no figures yet: the page had none to give")
            return
        lines = [*render_text(self._report).splitlines(), *self._features]
        if self._loop is not None:
            lines += ["", *summary(self._loop, self._report, self._gains(self._loop))]
        for line in lines:
            self._console.print(printable(line))

    def _gains(self, loop: LoopOverview) -> Sequence[Gain]:
        """Compare the interaction students that score the arms, where they are different ones."""
        scoring = {each.arm: each.name for each in loop.versions if each.kind == "interaction" and each.arm}
        if set(scoring) != {"control", "treatment"}:
            return ()
        first, last = (int(scoring[arm].rpartition("-")[2]) for arm in ("control", "treatment"))
        cold = of_run(self._settings.run_dir, cache_folder())
        precision = self._settings.serving.served_precision
        return compare(versions_of(self._settings), first, last, cold.unseen, precision=precision)


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
