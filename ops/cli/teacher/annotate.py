"""`relevance teacher annotate`: several LLMs label pairs, what they and people agree on becomes examples."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from ops.cli.context import CommandError, Context, pass_context
from ops.cli.teacher.annotation_tables import show
from ops.settings import Teacher
from teacher import policy as policies
from teacher.annotation import outputs, pairs, review, run
from teacher.annotation.accounting import Account, Prices
from teacher.annotation.ledger import Author, Ledger, LedgerError
from teacher.annotation.pairs import Pairs, PairsError
from teacher.annotation.progress import Progress
from teacher.annotation.review import ReviewError
from teacher.annotation.rule import WhenPersonDisagrees
from teacher.annotation.settings import Annotation, AnnotationSettingsError, Annotator, load
from teacher.client import TeacherError
from teacher.judging import Result
from teacher.policy import Policy, PolicyError
from teacher.probe import ProbeError

EXPECTED = (
    AnnotationSettingsError,
    LedgerError,
    PairsError,
    PolicyError,
    ProbeError,
    ReviewError,
    TeacherError,
)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
REFRESH_S: Final = 0.2
LINE_EVERY_S: Final = 10.0
RESUME: Final = "the answers so far are kept: the same command goes on from here"


@click.command(
    epilog="\b\nExamples:\n"
    "  relevance teacher annotate pairs.jsonl --out annotated \\\n"
    "    --annotator qwen=https://one.example/v1#Qwen2.5-72B-Instruct \\\n"
    "    --annotator llama=https://two.example/v1#Llama-3.3-70B-Instruct\n"
    "  relevance teacher annotate pairs.jsonl --out annotated --plan annotators.toml --samples 5\n"
    "  relevance teacher annotate pairs.jsonl --out annotated --plan annotators.toml \\\n"
    "    --reviewed annotated/review.csv"
)
@click.argument("file", type=FILE)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the results."
)
@click.option("--plan", type=FILE, help="Annotators, prices and rule as TOML; options go before it.")
@click.option("--annotator", "annotators", multiple=True, help="NAME=URL#MODEL, at least two of them.")
@click.option("--arbiter", help="NAME=URL#MODEL, asked where the annotators do not agree.")
@click.option("--samples", type=click.IntRange(1, 64), help="Answers of each annotator a pair [3].")
@click.option("--temperature", type=click.FloatRange(0, 2), help="Above 0 with several samples [0.7].")
@click.option(
    "--self-agreement",
    type=click.FloatRange(0, 1),
    help="Least share of an annotator's samples that have its grade [0.6].",
)
@click.option(
    "--person-disagrees",
    type=click.Choice([each.value for each in WhenPersonDisagrees]),
    help="Where all LLMs agree and a person's grade is another: drop the pair, let people review it, or keep it "
    "with the person's grade [review].",
)
@click.option(
    "--ignore-grades", is_flag=True, help="The grades in FILE are not people's: do not look at them."
)
@click.option("--reviewed", type=FILE, help="A review file that people have filled in, CSV or JSON lines.")
@click.option(
    "--wait-for-server",
    "wait_for_server_s",
    type=click.FloatRange(0),
    default=900,
    show_default=True,
    help="Seconds to wait for an endpoint that goes away midway.",
)
@pass_context
def annotate(
    context: Context,
    *,
    file: Path,
    out: Path,
    plan: Path | None,
    annotators: tuple[str, ...],
    arbiter: str | None,
    samples: int | None,
    temperature: float | None,
    self_agreement: float | None,
    person_disagrees: str | None,
    ignore_grades: bool,
    reviewed: Path | None,
    wait_for_server_s: float,
) -> None:
    """Let several LLMs grade the pairs of FILE, and keep what they, and people where known, agree on.

    FILE is JSON lines with query, item_id, item_text and, where known, a person's grade. Every answer is recorded
    as it comes, so the same command goes on where it was interrupted and asks nothing twice. OUT gets kept.jsonl
    (examples to fine-tune on), review.csv and review.jsonl for people, account.json and the ledger.
    """
    teacher = context.settings().teacher
    try:
        annotation = load(
            plan,
            annotators=annotators,
            arbiter=arbiter,
            given={
                "samples": samples,
                "temperature": temperature,
                "self_agreement": self_agreement,
                "person_disagrees": person_disagrees,
            },
        )
        policy = policies.configured(teacher)
        found = pairs.read(file, labels=policy.labels, grades_known=not ignore_grades)
        account = _annotate(
            context,
            annotation,
            teacher,
            policy,
            found,
            out=out,
            reviewed=reviewed,
            wait_for_server_s=wait_for_server_s,
        )
    except EXPECTED as error:
        raise CommandError(str(error)) from error
    show(context, account, out)
    if account.unanswered:
        raise CommandError(
            f"{account.unanswered} pairs have answers missing: no try at them got through; the same command "
            "asks them again"
        )


def _annotate(
    context: Context,
    annotation: Annotation,
    teacher: Teacher,
    policy: Policy,
    found: Pairs,
    *,
    out: Path,
    reviewed: Path | None,
    wait_for_server_s: float,
) -> Account:
    plan = run.plan_of(annotation, policy)
    authors = run.authors_of(annotation, policy, max_tokens=teacher.max_tokens)
    prices = {each.name: _prices(each) for each in annotation.everyone}
    began_s = time.monotonic()
    with Ledger(out / outputs.LEDGER, authors) as ledger:
        if reviewed is not None:
            names = {pair.key for pair in found.pairs}
            ledger.review(review.read(reviewed, labels=policy.labels, pairs=names))
        outputs.refuse_to_overwrite(out, ledger.reviews())

        def ask(annotators: list[Annotator], among: Sequence[pairs.PairToAnnotate]) -> None:
            answered = ledger.keys()
            asked = {
                each.name: run.questions(among, each.name, samples=plan.samples, answered=answered)
                for each in annotators
            }
            progress = Progress(
                to_ask={name: len(some) for name, some in asked.items()},
                spent=ledger.spent(),
                prices=prices,
                now_s=time.monotonic(),
            )
            with _shown(context.console, progress) as on_answer:
                asyncio.run(
                    run.ask_everyone(
                        annotators,
                        asked,
                        ledger,
                        annotation=annotation,
                        teacher=teacher,
                        policy=policy,
                        wait_for_server_s=wait_for_server_s,
                        on_answer=on_answer,
                    )
                )

        try:
            ask(annotation.annotators, found.pairs)
            if annotation.arbiter is not None:
                ask([annotation.arbiter], run.open_pairs(found.pairs, plan, ledger))
        except (KeyboardInterrupt, run.AnnotatorAwayError):
            context.console.print(RESUME)
            raise
        settled = outputs.settle_all(found, plan, ledger, prices)
        outputs.write(out, settled, plan, about=_about(annotation, authors, time.monotonic() - began_s))
    return settled.account


def _prices(annotator: Annotator) -> Prices:
    return Prices(
        usd_per_million_prompt_tokens=annotator.usd_per_million_prompt_tokens,
        usd_per_million_completion_tokens=annotator.usd_per_million_completion_tokens,
    )


def _about(annotation: Annotation, authors: dict[str, Author], run_s: float) -> dict[str, object]:
    # An address may hold a password.
    settings = annotation.model_dump(
        mode="json", exclude={"annotators": {"__all__": {"url": True}}, "arbiter": {"url": True}}
    )
    return {
        "settings": settings,
        "prompt_hash": next(iter(authors.values())).prompt_hash,
        "last_run_s": round(run_s, 1),
    }


@contextlib.contextmanager
def _shown(console: Console, progress: Progress) -> Iterator[Callable[[str, Result], None]]:
    """Show the progress while answers come: a bar on a terminal, a line now and then elsewhere."""
    if progress.total == progress.done:
        yield progress.add
        return
    columns = (TextColumn("annotating"), BarColumn(), TextColumn("{task.fields[told]}"))
    with Bar(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        now_s = time.monotonic()
        task = bar.add_task("", total=progress.total, completed=progress.done, told=progress.told(now_s))
        shown_s = now_s

        def on_answer(annotator: str, result: Result) -> None:
            nonlocal shown_s
            progress.add(annotator, result)
            now_s = time.monotonic()
            if now_s - shown_s < (REFRESH_S if console.is_terminal else LINE_EVERY_S):
                return
            shown_s = now_s
            if console.is_terminal:
                bar.update(task, completed=progress.done, told=progress.told(now_s))
            else:
                console.print(progress.told(now_s))

        try:
            yield on_answer
        finally:
            bar.stop()
            console.print(progress.told(time.monotonic()))
