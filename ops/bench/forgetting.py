"""What a student forgets over many updates on traffic that drifts, with and without replay and averaging.

    python -m ops.bench.forgetting [--updates 20] [--judgements 256] [--periods 5] [--seeds 1]

The generated shop's truth stands for the teacher: 0.85 on the true grade, the rest even, no chains. The product types
are parted into periods. A first student learns the first period's pairs; then come updates whose queries are, but for
a share --lasting, of the newest period's types alone. Every challenger becomes the champion: the gate has no part in
this. AUC is that of the first period's queries, on pairs that nothing was learned from; differences from the first
student are paired, intervals 95 % by query. Settings: RELEVANCE_STUDENTS__*, RELEVANCE_TRAINER__*.
"""

from __future__ import annotations

import copy
import hashlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import click
import numpy as np

from ops.bench.estimates import told
from ops.bench.machine import announce
from ops.evaluation import bootstrap
from ops.evaluation.metrics import METRICS
from ops.evaluation.pairs import Floats, ScoredPairs
from ops.settings import Settings, load
from ops.shop import catalogue, queries
from ops.shop.judged_pairs import text_of
from ops.shop.retrieval import Retriever
from ops.shop.truth import grade
from streams.item_text import query_text
from students.evaluation.graded import scored_by
from students.examples import LabelledPair, TrainingExample
from students.grades import ESCI
from students.incremental import state as states
from students.incremental.judged import Judged
from students.incremental.learning import learn, update_settings
from students.incremental.state import State, Taken
from students.saved import LoadedStudent
from students.training.loop import train
from students.training.run import described, untrained

SURE = 0.85
PER_QUERY = 4
#: Name, whether past judgements are replayed, whether weights are averaged.
VARIANTS = (
    ("replay and averaging", True, True),
    ("replay alone", True, False),
    ("averaging alone", False, True),
    ("neither", False, False),
)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Judgements by period, in the order in which they come, and graded pairs of the first period's queries."""

    periods: list[list[Judged]]
    watched: list[LabelledPair]


def traffic(*, seed: int, items: int, query_count: int, periods: int, watched_queries: int) -> Traffic:
    """Return a shop's judgements; equal arguments give equal ones."""
    shop = catalogue.generate(items=items, seed=seed)
    asked, intents = queries.generate(shop, queries=query_count, seed=seed)
    shares = load().streams
    classes = queries.traffic_classes(asked, head_share=shares.head_share, torso_share=shares.torso_share)
    retriever = Retriever(shop.items.values())
    rng = random.Random(f"forgetting {seed}")
    types = sorted({facts.product_type for facts in shop.facts.values()})
    rng.shuffle(types)
    period_of = {name: place % periods for place, name in enumerate(types)}
    found: list[list[Judged]] = [[] for _ in range(periods)]
    watched: list[LabelledPair] = []
    drawn = list(zip(asked, classes, strict=True))
    rng.shuffle(drawn)
    seen: set[str] = set()
    for each, traffic_class in drawn:
        query = query_text(each.text)
        period = period_of.get(intents[each.text].product_type)
        candidates = retriever.candidates(each.text)
        if query in seen or period is None or len(candidates) < 2 * PER_QUERY:
            continue
        seen.add(query)
        chosen = rng.sample(candidates, 2 * PER_QUERY)
        watches = period == 0 and watched_queries > 0
        watched_queries -= watches
        for place, item_id in enumerate(chosen):
            label = grade(intents[each.text], shop.facts[item_id]).value
            text = text_of(shop.items[item_id])
            if place < PER_QUERY:
                found[period].append(_judged(query, item_id, text, label, traffic_class.value))
            elif watches:
                watched.append(LabelledPair(query=query, item_id=item_id, item_text=text, grade=label))
    return Traffic(found, watched)


def drifting(
    shop: Traffic, *, updates: int, judgements: int, lasting: float, seed: int
) -> list[list[Judged]]:
    """Return each update's judgements: of the newest period mostly, `lasting` of all periods before."""
    rng = random.Random(f"drift {seed}")
    made = []
    later = len(shop.periods) - 1
    for number in range(updates):
        period = 1 + number * later // updates
        before = [each for earlier in shop.periods[:period] for each in earlier]
        old = round(lasting * judgements)
        made.append(
            rng.sample(shop.periods[period], min(judgements - old, len(shop.periods[period])))
            + rng.sample(before, min(old, len(before)))
        )
    return made


def follow(
    first: LoadedStudent, begun: State, lessons: Sequence[Sequence[Judged]], settings: Settings
) -> LoadedStudent:
    """Return the student after all updates, each of them from the one before."""
    student = LoadedStudent(first.description, copy.deepcopy(first.model), first.tokeniser)
    state = begun
    for number, lesson in enumerate(lessons, start=1):
        taken = Taken(new=list(lesson))
        new, again = states.lesson(state, taken, settings.trainer)
        learn(
            student,
            [each.example for each in (*new, *again)],
            settings=update_settings(settings.students, settings.trainer, update=number),
            averaging=settings.trainer.averaging,
            say=lambda _: None,
        )
        state = states.after(state, taken, "passed", watched=(), trainer=settings.trainer, gate=settings.gate)
    return student


@click.command(help=__doc__)
@click.option("--updates", default=20, show_default=True, type=click.IntRange(1))
@click.option("--judgements", default=256, show_default=True, type=click.IntRange(1), help="An update.")
@click.option("--periods", default=5, show_default=True, type=click.IntRange(2))
@click.option(
    "--first", default=2000, show_default=True, type=click.IntRange(8), help="Pairs learned at first."
)
@click.option("--lasting", default=0.0, show_default=True, type=click.FloatRange(0, 1))
@click.option("--items", default=8000, show_default=True, type=click.IntRange(100))
@click.option("--queries", "query_count", default=6000, show_default=True, type=click.IntRange(50))
@click.option("--watched", default=200, show_default=True, type=click.IntRange(10), help="First queries.")
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1))
def main(
    *,
    updates: int,
    judgements: int,
    periods: int,
    first: int,
    lasting: float,
    items: int,
    query_count: int,
    watched: int,
    seeds: int,
) -> None:
    """Train the variants of each seed and print what was forgotten."""
    announce("ops.bench.forgetting")
    settings = load()
    for seed in range(1, seeds + 1):
        shop = traffic(
            seed=seed, items=items, query_count=query_count, periods=periods, watched_queries=watched
        )
        sizes = ", ".join(f"{len(each):,}" for each in shop.periods)
        print(f"seed {seed}: pairs by period {sizes}; {len(shop.watched):,} watched", flush=True)
        opening = shop.periods[0][:first]
        student = untrained(described("interaction", ESCI, settings.students), settings.students)
        train(student, [each.example for each in opening], settings=settings.students)
        start = scored_by(student, shop.watched)
        print(f"{'first student':<22} AUC {told(bootstrap.estimate(METRICS['auc'], start, _weights(start)))}")
        begun = states.after(
            State(), Taken(new=opening), "passed", watched=(), trainer=settings.trainer, gate=settings.gate
        )
        lessons = drifting(shop, updates=updates, judgements=judgements, lasting=lasting, seed=seed)
        for name, replays, averages in VARIANTS:
            changed = settings.trainer.model_copy(
                update=({} if replays else {"replay_share": 0.0}) | ({} if averages else {"averaging": 1.0})
            )
            began_s = time.monotonic()
            made = follow(student, begun, lessons, settings.model_copy(update={"trainer": changed}))
            now = scored_by(made, shop.watched)
            difference = bootstrap.difference(METRICS["auc"], now, start, _weights(start))
            print(
                f"{name:<22} AUC {told(bootstrap.estimate(METRICS['auc'], now, _weights(now)))}, "
                f"change {told(difference, sign='+')}, {time.monotonic() - began_s:.0f} s",
                flush=True,
            )


def _judged(query: str, item_id: str, text: str, label: str, traffic_class: str) -> Judged:
    rest = (1 - SURE) / (len(ESCI.labels) - 1)
    example = TrainingExample(
        query=query,
        item_id=item_id,
        item_text=text,
        grade=label,
        distribution=tuple(SURE if each == label else rest for each in ESCI.labels),
    )
    identity = hashlib.blake2b(f"{query}\n{item_id}".encode(), digest_size=8).hexdigest()
    return Judged(identity=identity, example=example, traffic_class=traffic_class, judged_ms=0, sampled_ms=0)


def _weights(pairs: ScoredPairs) -> Floats:
    return bootstrap.resampled_weights(np.random.default_rng(7), queries=pairs.queries)


if __name__ == "__main__":
    main()
