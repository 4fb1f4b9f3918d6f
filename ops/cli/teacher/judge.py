"""`relevance teacher judge`: the teacher's judgement of one pair, or of a file of pairs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import click
import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ops.cli.context import CommandError, Context, pass_context, printable
from ops.clickhouse import publishing
from ops.settings import Settings, load
from streams.item_text import ATTRIBUTES, content_hash, item_text
from streams.records import Judgement
from teacher.cache import CacheError, Identity
from teacher.client import TeacherError
from teacher.judging import Result, open_judge
from teacher.parsing import Refusal
from teacher.policy import PolicyError
from teacher.probe import ProbeError
from teacher.prompt import NOTHING
from teacher.rows import judgement_row, refusal_row
from teacher.serving.address import teacher_urls

Named = tuple[Result, Identity]
Send = Callable[[Sequence[Named]], None]


class PairLine(msgspec.Struct, frozen=True):
    """What is read of a line: a `streams.records.Pair`, a `teacher.examples.Example`, or these fields alone."""

    query: str
    item_id: str
    item_text: str


@click.command(
    epilog="\b\nExamples:\n"
    '  relevance teacher judge "red steel kettle" "Norvik kettle, crimson, 1 l" --brand Norvik\n'
    '  relevance teacher judge "iphone 15 case" "Case, clear" --attribute compatibility="iPhone 14" --json\n'
    "  relevance teacher judge --file pairs.jsonl --out judgements.jsonl"
)
@click.argument("query", required=False)
@click.argument("title", required=False)
@click.option("--brand", default="", help="The item's brand.")
@click.option("--category", default="", help="The item's category path, from the top: A/B/C.")
@click.option("--attribute", "attributes", multiple=True, help=f"name=value; names: {', '.join(ATTRIBUTES)}.")
@click.option(
    "--mode", type=click.Choice(["chain", "score"]), help="With a chain of thought, or the grade only."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Pairs as JSON lines with query, item_id, item_text, such as records of relevance.pairs.",
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="With --file: judgements, JSON lines."
)
@click.option("--publish", is_flag=True, help="Also send the results to the stack, for the dashboard.")
@pass_context
def judge(
    context: Context,
    *,
    query: str | None,
    title: str | None,
    brand: str,
    category: str,
    attributes: tuple[str, ...],
    mode: str | None,
    as_json: bool,
    publish: bool,
    file: Path | None,
    out: Path | None,
) -> None:
    """Judge QUERY against the item called TITLE: chain of thought, grade distribution, relevance score.

    With --file many pairs are judged; what has been judged before is taken from the run directory, so the same
    command goes on where it was interrupted and asks only what was refused.
    """
    settings = load(context.environment({"TEACHER__MODE": mode}))
    if file is not None:
        if query is not None or out is None:
            raise click.UsageError("--file stands with --out and without QUERY and TITLE")
        with _publisher(settings, wanted=publish) as send:
            _judge_file(context, settings, read_pairs(file), out, send)
        return
    if query is None or title is None or out is not None:
        raise click.UsageError("expected QUERY and TITLE, or --file and --out")
    text = item_text(
        title=title,
        brand=brand,
        category=[level.strip() for level in category.split("/") if level.strip()],
        attributes=_attributes(attributes),
    )
    began_ms = time.time_ns() // 1_000_000
    pair = PairLine(query=query, item_id=f"typed-{content_hash(text)}", item_text=text)
    with _publisher(settings, wanted=publish) as send:
        result, name = run(settings, [pair])[0]
        send([(result, name)])
    if isinstance(result, Refusal):
        raise CommandError(f"no judgement, {result.reason}: {result.detail}")
    if as_json:
        # ASCII, so that nothing of a stranger's text steers the terminal.
        click.echo(json.dumps(msgspec.to_builtins(result), indent=2))
        return
    show(context, result, kept=result.judged_ms < began_ms)


def run(
    settings: Settings, pairs: Sequence[PairLine], on_result: Callable[[int, Result], None] | None = None
) -> list[Named]:
    """Judge all pairs at the teacher that the settings or the local server name; return them in order.

    Raises NotRunningError without a teacher, CommandError if it cannot judge.
    """
    reachable = settings.model_copy(update={"teacher_url": ",".join(teacher_urls(settings))})

    async def ask() -> list[Named]:
        async with open_judge(reachable) as judging:
            results = await judging.judge_all(pairs, on_result=on_result)
            names = [judging.identity(pair.query, pair.item_id, pair.item_text) for pair in pairs]
            return list(zip(results, names, strict=True))

    try:
        return asyncio.run(ask())
    except (CacheError, PolicyError, ProbeError, TeacherError) as error:
        raise CommandError(str(error)) from error


def show(context: Context, judgement: Judgement, *, kept: bool) -> None:
    """Print a judgement for people; `kept` says that it was made earlier."""
    say = context.console.print
    say(f"query    {printable(judgement.query)}")
    for number, line in enumerate(judgement.item_text.split("\n")):
        say(f"{'' if number else 'item':<9}{printable(line)}")
    say()
    if judgement.verdicts:
        rows = [
            (
                verdict.subtask,
                _words(verdict.query_words, verdict.query_span),
                _words(verdict.item_words, verdict.item_span),
                verdict.verdict,
            )
            for verdict in judgement.verdicts
        ]
        context.table(("subtask", "words of the query", "words of the item", "verdict"), rows)
        say()
    shares = "  ".join(f"{label} {share:.3f}" for label, share in judgement.grades.items())
    say(f"grade    {judgement.grade}  ({shares})")
    say(f"score    {judgement.relevance_score:.3f}")
    say(
        f"cost     {judgement.prompt_tokens} prompt tokens ({judgement.cached_tokens} of them cached),"
        f" {judgement.completion_tokens} written, {judgement.latency_ms:.0f} ms"
    )
    say(f"teacher  {printable(judgement.teacher_id)}, prompt {judgement.prompt_hash}")
    if kept:
        at = datetime.fromtimestamp(judgement.judged_ms / 1000, tz=UTC)
        say(f"kept     judged on {at:%Y-%m-%d %H:%M} UTC, not asked again")


def read_pairs(path: Path) -> list[PairLine]:
    """Return the pairs of a file. Raises CommandError that names the line that is none."""
    decoder = msgspec.json.Decoder(PairLine)
    pairs = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                pairs.append(decoder.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise CommandError(
                    f"{path}:{number}: expected JSON with query, item_id, item_text: {error}"
                ) from error
    if not pairs:
        raise CommandError(f"{path}: expected pairs, one JSON object a line, found none")
    return pairs


def _words(words: str, span: tuple[int, int] | None) -> str:
    return f"{words} (not there)" if words and span is None else words or NOTHING


def _attributes(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for entry in given:
        name, equals, value = entry.partition("=")
        if not equals or name not in ATTRIBUTES:
            raise click.BadParameter(
                f"expected name=value with a name of {', '.join(ATTRIBUTES)}, got {entry!r}",
                param_hint="--attribute",
            )
        found[name] = value
    return found


@contextlib.contextmanager
def _publisher(settings: Settings, *, wanted: bool) -> Iterator[Send]:
    """Yield what sends results to the store; the broker is asked first, so that no judging is in vain."""
    if not wanted:
        yield lambda results: None
        return
    with publishing.connected(settings) as client:

        def send(results: Sequence[Named]) -> None:
            at_ms = time.time_ns() // 1_000_000
            judged = [judgement_row(result) for result, _ in results if isinstance(result, Judgement)]
            publishing.publish(client, "judgements", judged)
            refused = [
                refusal_row(
                    query=name.query,
                    item_id=name.item_id,
                    content_hash=name.content_hash,
                    teacher_id=name.teacher_id,
                    prompt_hash=name.prompt_hash,
                    reason=result.reason,
                    detail=result.detail,
                    at_ms=at_ms,
                )
                for result, name in results
                if isinstance(result, Refusal)
            ]
            publishing.publish(client, "teacher_refusals", refused)

        yield send


def _judge_file(
    context: Context, settings: Settings, pairs: Sequence[PairLine], out: Path, send: Send
) -> None:
    refused: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    columns = (
        TextColumn("judging"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("wb") as file, Progress(*columns, console=context.console, transient=True) as progress:
        task = progress.add_task("", total=len(pairs), rate="")
        began_s = time.monotonic()

        def on_result(place: int, result: Result) -> None:
            tokens["prompt"] += result.prompt_tokens
            tokens["cached"] += result.cached_tokens
            tokens["written"] += result.completion_tokens
            if isinstance(result, Refusal):
                refused[result.reason] += 1
            else:
                _write(file, result)
            done = progress.tasks[0].completed + 1
            progress.update(task, advance=1, rate=f"{done / (time.monotonic() - began_s):.1f}/s")

        results = run(settings, pairs, on_result)
        passed_s = time.monotonic() - began_s
    send(results)
    judged = len(pairs) - refused.total()
    context.console.print(
        f"judged {judged} of {len(pairs)} pairs in {passed_s:.1f} s; {tokens['prompt']} prompt tokens"
        f" ({tokens['cached']} cached), {tokens['written']} written; {out}"
    )
    if refused:
        reasons = ", ".join(f"{reason} {count}" for reason, count in refused.most_common())
        raise CommandError(
            f"{refused.total()} pairs have no judgement: {reasons}; the same command asks those again"
        )


def _write(file: IO[bytes], judgement: Judgement) -> None:
    file.write(msgspec.json.encode(judgement) + b"\n")
    file.flush()
