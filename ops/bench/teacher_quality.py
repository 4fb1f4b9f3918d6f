"""How good a teacher is on unseen queries of the generated shop, of ESCI and of Chorus, beside the lexical floor.

    python -m ops.bench.teacher_quality judge --url http://127.0.0.1:18000/v1 --model NAME --mode chain --out DIR
    python -m ops.bench.teacher_quality table --judged black-box=DIR --judged chain=DIR

Judging asks the endpoint and is slow; stopped, it goes on where it was. The table is fast. The truth is the
generated shop's, or people's grades; relevant means exact. A scorer's row is over the pairs that it judged, a
difference over those that both did. Calibration is isotonic, each query's fitted on the grades of other queries.
Intervals are 95 %, over resamples of queries. Training saw none of the queries.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
import numpy as np

from ops.bench.machine import announce
from ops.cli.context import Context
from ops.evaluation import bootstrap
from ops.evaluation.bootstrap import Estimate
from ops.evaluation.calibration import cross_fitted
from ops.evaluation.metrics import Metric, UndefinedError, auc, ece, kappa, ndcg
from ops.evaluation.pairs import ScoredPairs, scored_pairs
from ops.files import write_atomically
from ops.settings import Settings, load
from ops.settings import Shop as ShopSettings
from ops.shop import real_catalogue
from ops.shop.items import Item
from ops.shop.judged_pairs import EVALUATION_SEED, GOLDEN_SEED, JudgedPair, evaluation_set
from ops.shop.scorers import LexicalScorer
from ops.shop.shop import open_shop
from ops.shop.truth import GAINS
from streams.records import Judgement
from teacher.judging import open_judge
from teacher.parsing import Refusal

SETS = ("shop", "esci", "chorus")
LEXICAL = "lexical"
SEED = 7
TOLD_EVERY_S = 30
METRICS: Mapping[str, Metric] = {"AUC": auc, "nDCG@10": ndcg, "kappa": kappa, "ECE": ece}
CALIBRATED = "ECE calibrated"
#: The scale's labels, best first.
SCALE = {grade.value: gain for grade, gain in GAINS.items()}

Key = tuple[str, str]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A pair of an evaluation set and what the teacher said: a judgement, or a refusal."""

    pair: JudgedPair
    judgement: Judgement | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """One scorer's result on one evaluation set, by pair; `grades` is None for a scorer without grades."""

    scores: Mapping[Key, float]
    grades: Mapping[Key, str] | None


def key(pair: JudgedPair) -> Key:
    """Return what names a pair within its set."""
    return pair.query, pair.item_id


def scored(answers: Sequence[Answer]) -> Scored:
    """Return the judgements among the answers by pair."""
    judged = [(key(each.pair), each.judgement) for each in answers if each.judgement]
    return Scored(
        {name: found.relevance_score for name, found in judged}, {name: found.grade for name, found in judged}
    )


def lexical(pairs: Sequence[JudgedPair], items: Mapping[str, Item]) -> Scored:
    """Return the lexical scorer's scores of the pairs, its word weights counted over all `items`."""
    scorer = LexicalScorer(items.values())
    return Scored({key(pair): scorer.score(pair.query, [items[pair.item_id]])[0] for pair in pairs}, None)


def common(pairs: Sequence[JudgedPair], *scorers: Scored) -> list[ScoredPairs]:
    """Return for each scorer its scores of the pairs that all of them judged, in the same order."""
    both = [pair for pair in pairs if all(key(pair) in each.scores for each in scorers)]
    return [
        scored_pairs(
            gains=SCALE,
            queries=[pair.query for pair in both],
            scores=[each.scores[key(pair)] for pair in both],
            grades=[pair.grade for pair in both],
            predicted=None if each.grades is None else [each.grades[key(pair)] for pair in both],
            strata=[pair.traffic_class for pair in both],
        )
        for each in scorers
    ]


def figures(pairs: ScoredPairs) -> dict[str, Estimate]:
    """Return the metrics of a row with their intervals, by name."""
    found = bootstrap.estimates(pairs, np.random.default_rng(SEED), metrics=METRICS)
    weights = bootstrap.resampled_weights(np.random.default_rng(SEED), queries=pairs.queries)
    try:
        corrected = cross_fitted(pairs, np.random.default_rng(SEED))
    except UndefinedError as error:
        return found | {CALIBRATED: Estimate(value=None, why=str(error))}
    return found | {CALIBRATED: bootstrap.estimate(ece, corrected, weights)}


def differences(ours: ScoredPairs, theirs: ScoredPairs) -> dict[str, Estimate]:
    """Return how much greater each metric is under our scores than under theirs, by name."""
    weights = bootstrap.resampled_weights(np.random.default_rng(SEED), queries=ours.queries)
    return {name: bootstrap.difference(metric, ours, theirs, weights) for name, metric in METRICS.items()}


def catalogue_items(settings: Settings, name: str) -> Mapping[str, Item]:
    """Return all items of an evaluation set's catalogue by id."""
    if name == "shop":
        return open_shop(ShopSettings(seed=EVALUATION_SEED)).items
    return real_catalogue.load(settings.data / name, seed=GOLDEN_SEED).items


def read_answers(path: Path) -> list[Answer]:
    """Read a judged evaluation set. Raises click.ClickException for a file that is none."""
    try:
        return msgspec.json.Decoder(Answer).decode_lines(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise click.ClickException(f"{path}: expected answers as JSON lines: {error}") from error


@click.group(help=__doc__)
def main() -> None:
    """Judge, then print the table."""


@main.command()
@click.option("--url", required=True, help="OpenAI-compatible endpoint, http://host:port/v1.")
@click.option("--model", required=True, help="The name it serves the model under.")
@click.option("--mode", type=click.Choice(["chain", "score"]), required=True)
@click.option("--set", "names", default=",".join(SETS), show_default=True, help="Evaluation sets.")
@click.option("--queries", default=120, show_default=True, help="Of the shop; real sets have what they have.")
@click.option("--per-query", default=12, show_default=True, help="Pairs of a query at most.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def judge(*, url: str, model: str, mode: str, names: str, queries: int, per_query: int, out: Path) -> None:
    """Ask the endpoint about the pairs of the evaluation sets; answers go to OUT."""
    announce("ops.bench.teacher_quality")
    given = {
        "TEACHER_URL": url,
        "TEACHER__MODEL": model,
        "TEACHER__MODE": mode,
        # Judgements are kept beside the answers, so a run that was stopped goes on.
        "RUN_DIR": str(out),
    }
    settings = load(os.environ | {f"RELEVANCE_{name}": value for name, value in given.items()})
    for name in names.split(","):
        if name not in SETS:
            raise click.UsageError(f"expected sets among {', '.join(SETS)}, got {name!r}")
        pairs = evaluation_set(name, settings.data, sampled_queries=queries, per_query=per_query)
        answers = asyncio.run(ask(settings, pairs, say=click.echo))
        write_atomically(out / f"{name}.jsonl", msgspec.json.Encoder().encode_lines(answers))
        refused = Counter(str(each.refusal.reason) for each in answers if each.refusal)
        click.echo(f"{name}: {len(answers)} pairs, refused {refused.total()}: {dict(refused)}")


async def ask(settings: Settings, pairs: Sequence[JudgedPair], *, say: Callable[[str], None]) -> list[Answer]:
    """Return the teacher's answer for each pair, in order."""
    done, began_s, told_s = 0, time.monotonic(), time.monotonic()

    def tell(_: int, result: Judgement | Refusal) -> None:
        nonlocal done, told_s
        done += 1
        now_s = time.monotonic()
        if now_s - told_s > TOLD_EVERY_S:
            told_s = now_s
            say(f"{done} of {len(pairs)}, {done / (now_s - began_s):.2f}/s")

    async with open_judge(settings) as judge:
        results = await judge.judge_all(pairs, on_result=tell)
    return [
        Answer(pair=pair, judgement=found)
        if isinstance(found, Judgement)
        else Answer(pair=pair, refusal=found)
        for pair, found in zip(pairs, results, strict=True)
    ]


@main.command()
@click.option(
    "--judged", "judged", multiple=True, required=True, metavar="NAME=DIR", help="In the table's order."
)
@click.option("--subject", help="Whose differences from all others are shown; else the last one's.")
def table(*, judged: tuple[str, ...], subject: str | None) -> None:
    """Print the table of what `judge` wrote."""
    folders = dict(_named(each) for each in judged)
    subject = subject or list(folders)[-1]
    if subject not in folders:
        raise click.UsageError(f"expected --subject among {', '.join(folders)}, got {subject!r}")
    announce("ops.bench.teacher_quality")
    settings = load()
    context = Context()
    for name in SETS:
        answers = {
            who: read_answers(folder / f"{name}.jsonl")
            for who, folder in folders.items()
            if (folder / f"{name}.jsonl").exists()
        }
        if answers:
            show(context, settings, name, answers, subject=subject)


def show(
    context: Context, settings: Settings, name: str, answers: Mapping[str, Sequence[Answer]], *, subject: str
) -> None:
    """Print one evaluation set's rows and differences."""
    pairs = [each.pair for each in next(iter(answers.values()))]
    for who, theirs in answers.items():
        if [each.pair for each in theirs] != pairs:
            raise click.ClickException(
                f"{name}: {who} was asked about other pairs: judge with the same options"
            )
    scorers = {LEXICAL: lexical(pairs, catalogue_items(settings, name))}
    scorers |= {who: scored(theirs) for who, theirs in answers.items()}
    mix = Counter(pair.grade for pair in pairs)
    told = ", ".join(f"{label} {mix[label] / len(pairs):.0%}" for label in SCALE)
    context.console.print(f"\n{name}: {len(pairs)} pairs of {len({p.query for p in pairs})} queries; {told}")
    headings = ["scorer", "queries", "pairs", "refused", *METRICS, CALIBRATED]
    rows: dict[str, list[list[str]]] = {}
    for who, scorer in scorers.items():
        for cut, kept in common(pairs, scorer)[0].cuts().items():
            asked = sum(cut in ("all", pair.traffic_class) for pair in pairs)
            counts = [f"{kept.queries} {cut}", str(len(kept)), f"{1 - len(kept) / asked:.1%}"]
            rows.setdefault(cut, []).append([who, *counts, *map(cell, figures(kept).values())])
    context.table(headings, [row for of_cut in rows.values() for row in of_cut])
    if subject not in scorers:
        return
    changes: dict[str, list[list[str]]] = {}
    for who, scorer in scorers.items():
        if who == subject:
            continue
        mine, other = (each.cuts() for each in common(pairs, scorers[subject], scorer))
        for cut, kept in mine.items():
            found = differences(kept, other[cut])
            row = [f"{subject} - {who}", f"{kept.queries} {cut}", str(len(kept))]
            changes.setdefault(cut, []).append([*row, *(cell(each, signed=True) for each in found.values())])
    context.console.print()
    context.table(
        ["difference", "queries", "pairs", *METRICS], [row for of_cut in changes.values() for row in of_cut]
    )


def cell(figure: Estimate, *, signed: bool = False) -> str:
    """Return a figure with its interval, or why there is none."""
    if figure.value is None:
        return f"- ({figure.why})"
    sign = "+" if signed else ""
    if figure.lower is None or figure.upper is None:
        return f"{figure.value:{sign}.3f} ({figure.why})"
    return f"{figure.value:{sign}.3f} [{figure.lower:{sign}.3f}, {figure.upper:{sign}.3f}]"


def _named(given: str) -> tuple[str, Path]:
    name, separator, folder = given.partition("=")
    if not (separator and name and Path(folder).is_dir()) or name == LEXICAL:
        raise click.UsageError(f"expected --judged NAME=DIR with a folder that `judge` wrote, got {given!r}")
    return name, Path(folder)


if __name__ == "__main__":
    main()
