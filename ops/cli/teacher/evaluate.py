"""`relevance teacher evaluate`: how far the teacher agrees with people, what it costs, what it refuses."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
import numpy as np

from ops.cli.context import CommandError, Context, pass_context
from ops.clickhouse import publishing
from ops.evaluation import calibration
from ops.evaluation.bootstrap import Estimate
from ops.evaluation.metrics import UndefinedError
from ops.settings import Settings
from streams.records import Judgement
from teacher import policy as policies
from teacher.cache import CacheError
from teacher.client import TeacherError
from teacher.examples import Example, ExampleError
from teacher.examples import read as read_examples
from teacher.judging import Result, open_judge
from teacher.parsing import Refusal
from teacher.policy import Policy, PolicyError
from teacher.probe import ProbeError
from teacher.rows import report_rows
from teacher.watching import ReportError, TeacherReport, against_people, report

#: What files, settings and endpoints can do wrong.
EXPECTED = (CacheError, ExampleError, PolicyError, ProbeError, ReportError, TeacherError, UndefinedError)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    epilog="\b\nExamples:\n  relevance teacher evaluate --people grades.jsonl --publish\n"
    "  relevance teacher evaluate --file judgements.jsonl --people grades.jsonl\n"
    "  relevance teacher evaluate --file this-week.jsonl --before last-week.jsonl --json"
)
@click.option(
    "--people", type=FILE, help="People's grades, examples as JSON lines; the teacher judges their pairs."
)
@click.option(
    "--file", "judged", type=FILE, help="Judgements made before, as JSON lines: the teacher isn't asked."
)
@click.option("--before", type=FILE, help="Judgements of an earlier period, to tell a drift of the grades.")
@click.option(
    "--save-calibration",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Fit isotonic calibration on all of people's grades and write it here.",
)
@click.option("--publish", is_flag=True, help="Send the figures to the stack, for the dashboard.")
@click.option("--seed", default=7, show_default=True, help="Of the resamples behind the intervals.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_context
def evaluate(
    context: Context,
    *,
    people: Path | None,
    judged: Path | None,
    before: Path | None,
    save_calibration: Path | None,
    publish: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Print a report of one teacher: agreement with people, calibration, grades, tokens, seconds, refusals.

    Intervals are 95 %, by resampling queries.
    """
    if people is None and judged is None:
        raise click.UsageError("give --people, --file, or both")
    if save_calibration and people is None:
        raise click.UsageError("--save-calibration needs --people")
    settings = context.settings()
    try:
        policy = policies.configured(settings.teacher)
        graded = [] if people is None else list(read_examples(people))
        earlier = [] if before is None else read_judgements(before)
        answers = asyncio.run(_ask(context, settings, graded)) if judged is None else read_judgements(judged)
        judgements, refusals = parted(answers)
        made = report(
            judgements,
            refusals,
            policy=policy,
            rng=np.random.default_rng(seed),
            people=graded,
            earlier=earlier,
        )
        if save_calibration:
            _fit(save_calibration, judgements, graded, policy=policy, made=made)
    except EXPECTED as error:
        raise CommandError(str(error)) from error
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(made), indent=2))
    else:
        render(context, made)
    if publish:
        _publish(context, settings, made, data_set=(people or judged or Path()).stem, quiet=as_json)


def read_judgements(path: Path) -> list[Judgement]:
    """Read judgements as JSON lines. Raises ReportError that names the line that is none."""
    decoder = msgspec.json.Decoder(Judgement)
    found = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                found.append(decoder.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ReportError(f"{path}:{number}: expected a judgement as JSON: {error}") from error
    return found


def parted(results: Sequence[Result]) -> tuple[list[Judgement], list[Refusal]]:
    """Return judgements and refusals apart."""
    return (
        [each for each in results if isinstance(each, Judgement)],
        [each for each in results if isinstance(each, Refusal)],
    )


async def _ask(context: Context, settings: Settings, pairs: Sequence[Example]) -> list[Result]:
    done: Counter[str] = Counter()
    began_s = time.monotonic()
    async with open_judge(settings) as judge:
        with context.console.status("") as status:

            def tell(_: int, result: Result) -> None:
                done[type(result).__name__] += 1
                rate = done.total() / max(1e-9, time.monotonic() - began_s)
                status.update(
                    f"{done.total():,} of {len(pairs):,} pairs, {done['Refusal']:,} refused, {rate:.1f}/s"
                )

            return await judge.judge_all(pairs, on_result=tell)


def _fit(
    path: Path,
    judgements: Sequence[Judgement],
    graded: Sequence[Example],
    *,
    policy: Policy,
    made: TeacherReport,
) -> None:
    pairs = against_people(judgements, graded, policy=policy)
    calibration.save(path, calibration.fit(pairs, scorer=f"{made.teacher_id} {made.prompt_hash}"))


def render(context: Context, made: TeacherReport) -> None:
    """Print a report as text."""
    answers = f"{made.judgements:,} judgements, {sum(made.refused.values()):,} refused"
    context.table(
        ["teacher", "prompt", "answers"], [(made.teacher_id or "-", made.prompt_hash or "-", answers)]
    )
    context.console.print()
    context.table(["figure", "value", "95 % interval", ""], [_line(*entry) for entry in made.figures.items()])
    context.console.print()
    context.table(["grade mix", "", ""], [(made.drift, made.drift_why, "")])
    if made.refused:
        context.console.print()
        context.table(["refused because", "answers"], list(made.refused.items()))


def _line(name: str, figure: Estimate) -> tuple[str, str, str, str]:
    value = "-" if figure.value is None else f"{figure.value:.4g}"
    if figure.lower is None or figure.upper is None:
        return name, value, "", figure.why
    return name, value, f"{figure.lower:.4g} to {figure.upper:.4g}", figure.why


def _publish(
    context: Context, settings: Settings, made: TeacherReport, *, data_set: str, quiet: bool
) -> None:
    rows = report_rows(made, data_set=data_set, made_ms=time.time_ns() // 1_000_000)
    with publishing.connected(settings) as client:
        count = publishing.publish(client, "teacher_reports", rows)
    if not quiet:
        context.console.print(f"sent {count} figures as {data_set!r} to the dashboard's store")
