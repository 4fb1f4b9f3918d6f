"""What sellers' tricks in titles do to the teacher's grades: attacked titles against the same items' clean ones.

    python -m ops.bench.teacher_attacks [--pairs 36] [--url http://127.0.0.1:18000/v1 --model NAME --mode chain]

Pairs are the generated shop's, of queries that no training saw, as many of each true grade as there are. Each pair
gets one attack of every family, in wordings that no training saw; item texts are made and cleaned as in production.
A grade has changed if it is not the same teacher's grade of the clean title. Answers of the server vary a little
by themselves, so the clean titles are asked about once more: that share is what no attack caused. Intervals are
95 %, exact (Clopper and Pearson 1934), taking attacks as independent.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
import numpy as np
from scipy.stats import binomtest

from ops.bench.machine import announce
from ops.cli.context import Context, printable
from ops.settings import Settings, load
from ops.settings import Shop as ShopSettings
from ops.shop.items import Item
from ops.shop.judged_pairs import EVALUATION_SEED, JudgedPair, shop_pairs, text_of
from ops.shop.shop import open_shop
from streams.records import Judgement
from teacher.attacks import attacks
from teacher.judging import Judge, Result, open_judge
from teacher.parsing import Refusal
from teacher.policy import Policy

SEED = 7
#: Pairs are drawn from so many queries, so that each grade has enough.
QUERIES = 150
PER_QUERY = 6
AGAIN = "none (asked again)"
ALL = "all attacks"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attack on one pair, as it is shown to the teacher. `true_grade` is the shop's."""

    family: str
    query: str
    item_id: str
    title: str
    item_text: str
    clean_text: str
    true_grade: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """An attempt with the teacher's judgement of the clean title, and what it said to the attacked one."""

    attempt: Attempt
    clean: Judgement
    attacked: Result

    @property
    def changed(self) -> bool:
        """Tell whether the grade is another one; a refusal is counted apart."""
        return isinstance(self.attacked, Judgement) and self.attacked.grade != self.clean.grade


@dataclass(frozen=True, slots=True)
class Summary:
    """One family's outcomes. `share` is that of changed grades among the judged, with its interval;
    `better` of them rose on the scale. `moves` are |score change|s at p50, p95 and the greatest."""

    family: str
    attacks: int
    same_text: int
    refused: int
    changed: int
    better: int
    share: tuple[float, float, float] | None
    moves: tuple[float, float, float] | None


def chosen(pairs: Sequence[JudgedPair], count: int, rng: random.Random) -> list[JudgedPair]:
    """Return `count` pairs, of each true grade an equal number as far as there are enough."""
    by_grade: dict[str, list[JudgedPair]] = {}
    for pair in pairs:
        by_grade.setdefault(pair.grade, []).append(pair)
    found: list[JudgedPair] = []
    waiting = sorted(by_grade.values(), key=len)
    for number, same in enumerate(waiting):
        found += rng.sample(same, min(len(same), (count - len(found)) // (len(waiting) - number)))
    return found


def attempts(pairs: Sequence[JudgedPair], items: Mapping[str, Item], rng: random.Random) -> list[Attempt]:
    """Return an attack of each family on each pair, but for those that chance left without effect on the title."""
    return [
        Attempt(
            family=attack.family,
            query=pair.query,
            item_id=pair.item_id,
            title=attack.title,
            item_text=text_of(msgspec.structs.replace(items[pair.item_id], title=attack.title)),
            clean_text=pair.item_text,
            true_grade=pair.grade,
        )
        for pair in pairs
        for attack in attacks(rng, pair.query, items[pair.item_id].title, pool="held_out")
        if attack.title != items[pair.item_id].title
    ]


def summary(family: str, outcomes: Sequence[Outcome], policy: Policy) -> Summary:
    """Return the figures of one family's outcomes."""
    judged = [(each.clean, each.attacked) for each in outcomes if isinstance(each.attacked, Judgement)]
    place = {label: number for number, label in enumerate(policy.labels)}
    changed = [(clean, attacked) for clean, attacked in judged if clean.grade != attacked.grade]
    share = moves = None
    if judged:
        test = binomtest(len(changed), len(judged)).proportion_ci(0.95, method="exact")
        share = (len(changed) / len(judged), float(test.low), float(test.high))
        steps = [abs(attacked.relevance_score - clean.relevance_score) for clean, attacked in judged]
        p50, p95, most = np.quantile(steps, [0.5, 0.95, 1.0]).tolist()
        moves = (p50, p95, most)
    return Summary(
        family=family,
        attacks=len(outcomes),
        same_text=sum(each.attempt.item_text == each.attempt.clean_text for each in outcomes),
        refused=len(outcomes) - len(judged),
        changed=len(changed),
        better=sum(place[attacked.grade] < place[clean.grade] for clean, attacked in changed),
        share=share,
        moves=moves,
    )


async def run(
    judge: Judge, pairs: Sequence[JudgedPair], tried: Sequence[Attempt]
) -> tuple[list[Outcome], list[Outcome], list[Refusal]]:
    """Return the attacks' outcomes, those of the clean titles asked once more, and refusals of clean titles."""
    clean = await judge.judge_all(pairs)
    known = {
        (pair.query, pair.item_id): found
        for pair, found in zip(pairs, clean, strict=True)
        if isinstance(found, Judgement)
    }
    attacked = await judge.judge_all(tried)
    outcomes = [
        Outcome(each, known[each.query, each.item_id], found)
        for each, found in zip(tried, attacked, strict=True)
        if (each.query, each.item_id) in known
    ]
    again = [
        Outcome(_unattacked(pair), known[pair.query, pair.item_id], found)
        for pair, found in zip(pairs, await _asked_again(judge, pairs), strict=True)
        if (pair.query, pair.item_id) in known
    ]
    return outcomes, again, [found for found in clean if isinstance(found, Refusal)]


async def _asked_again(judge: Judge, pairs: Sequence[JudgedPair]) -> list[Result]:
    return list(
        await asyncio.gather(*(judge.ask(pair.query, pair.item_id, pair.item_text) for pair in pairs))
    )


def _unattacked(pair: JudgedPair) -> Attempt:
    return Attempt(
        family=AGAIN,
        query=pair.query,
        item_id=pair.item_id,
        title=pair.item_text.split("\n", 1)[0],
        item_text=pair.item_text,
        clean_text=pair.item_text,
        true_grade=pair.grade,
    )


@click.command(help=__doc__)
@click.option(
    "--pairs", "count", default=36, show_default=True, help="Each is attacked once by every family."
)
@click.option("--url", help="Endpoint instead of the configured one.")
@click.option("--model", help="The name it serves the model under.")
@click.option("--mode", type=click.Choice(["chain", "score"]))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Where judgements are kept.")
def main(count: int, url: str | None, model: str | None, mode: str | None, out: Path | None) -> None:
    """Attack and print what came of it."""
    announce("ops.bench.teacher_attacks")
    given = {"TEACHER_URL": url, "TEACHER__MODEL": model, "TEACHER__MODE": mode, "RUN_DIR": out}
    settings = load(
        os.environ | {f"RELEVANCE_{name}": str(value) for name, value in given.items() if value is not None}
    )
    rng = random.Random(SEED)
    pairs = chosen(shop_pairs(sampled_queries=QUERIES, per_query=PER_QUERY), count, rng)
    tried = attempts(pairs, open_shop(ShopSettings(seed=EVALUATION_SEED)).items, rng)
    click.echo(f"{len(tried)} attacks on {len(pairs)} pairs")
    asyncio.run(_attack(settings, pairs, tried))


async def _attack(settings: Settings, pairs: Sequence[JudgedPair], tried: Sequence[Attempt]) -> None:
    async with open_judge(settings) as judge:
        outcomes, again, refused = await run(judge, pairs, tried)
        show(outcomes, again, refused, judge.policy)


def show(
    outcomes: Sequence[Outcome], again: Sequence[Outcome], refused: Sequence[Refusal], policy: Policy
) -> None:
    """Print the table by family, then every grade that changed and every refusal."""
    context = Context()
    families = list(dict.fromkeys(each.attempt.family for each in outcomes))
    rows = [summary(AGAIN, again, policy)]
    rows += [summary(name, [o for o in outcomes if o.attempt.family == name], policy) for name in families]
    rows.append(summary(ALL, outcomes, policy))
    context.table(
        [
            "family",
            "attacks",
            "same text",
            "refused",
            "changed",
            "of them better",
            "share changed",
            "|score change| p50",
            "p95",
            "most",
        ],
        [_row(each) for each in rows],
    )
    if refused:
        click.echo(f"clean titles refused, their attacks left out: {len(refused)}")
    for each in outcomes:
        found, attempt = each.attacked, each.attempt
        if isinstance(found, Refusal):
            context.console.print(f"refused ({found.reason}) {attempt.family}: {printable(attempt.title)}")
        elif each.changed:
            context.console.print(
                f"changed {each.clean.grade} -> {found.grade} (true {attempt.true_grade}, score "
                f"{each.clean.relevance_score:.3f} -> {found.relevance_score:.3f}) {attempt.family}: "
                f"{printable(attempt.query)!r}: {printable(attempt.title)}"
            )


def _row(each: Summary) -> list[object]:
    share = "-" if each.share is None else "{:.1%} [{:.1%}, {:.1%}]".format(*each.share)
    moves = ["-"] * 3 if each.moves is None else [f"{move:.3f}" for move in each.moves]
    counts = (each.attacks, each.same_text, each.refused, each.changed, each.better)
    return [each.family, *counts, share, *moves]


if __name__ == "__main__":
    main()
