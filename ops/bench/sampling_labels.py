"""Labels that a student needs: pairs as the sampler orders them, beside uniform draws, at equal teacher tokens.

    python -m ops.bench.sampling_labels --answers DIR [--sizes 250,500,1000,2000,4000] [--start 500] [--seeds 3]

DIR of --answers is what `ops.bench.student_judgements` wrote for the shop: a pool of pairs that the teacher judged.
A first student learns people's hard grades (the shop's truth) of the first --start pairs; the pool is the rest. At
each size the sampler has chosen by its own priority: rarity by the shop's shares of traffic, the present student's
scores, clicks simulated as the shop's shoppers click, novelty; and its uniform share by lot. By lot all distinct
pairs are as likely; by impression all impressions are, as for who takes every n-th event of the stream. All students
start from the first one and learn the teacher's judgements of all that was chosen so far. A size is a number of
teacher tokens: so many times the pool's mean judgement. AUC is against the truth, on unseen queries of which a third
are of the tail; intervals are 95 % over resamples of queries. Settings: RELEVANCE_STUDENTS__*,
RELEVANCE_SAMPLING__*.
"""

from __future__ import annotations

import copy
import heapq
import random
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from ops.bench import student_answers
from ops.bench.estimates import told
from ops.bench.machine import announce
from ops.bench.student_answers import SCALE, by_people, judged
from ops.bench.teacher_quality import Answer
from ops.evaluation import bootstrap
from ops.evaluation.metrics import METRICS
from ops.evaluation.pairs import ScoredPairs
from ops.settings import Sampling, Students, load
from ops.shop.items import TrafficQuery
from ops.shop.judged_pairs import JudgedPair, evaluation_shop, shop_pairs
from ops.shop.shoppers import NOISE_CLICKS, RELEVANT_CLICKS
from ops.shop.truth import GAINS, Grade
from streams.item_text import query_text
from streams.records import EngagementWindow, ItemEngagement
from streams.sampling import Candidate, Shape, candidates
from students.evaluation.graded import scored_by
from students.evaluation.scoring import score_pairs
from students.saved import LoadedStudent
from students.training.loop import train
from students.training.run import described, untrained

#: Searches that the traffic before a draw stands for; a query's are its share of them, at least one.
SEARCHES = 20_000
#: Impressions of a pair that are worth simulating; more only make behaviour surer.
MOST_IMPRESSIONS = 50
SAMPLER, LOT, IMPRESSION = "sampler", "by lot", "by impression"
WAYS = (SAMPLER, LOT, IMPRESSION)


@dataclass(frozen=True, slots=True)
class Shown:
    """What traffic showed of a pool: each pair's impressions and clicks, each query's searches, the mean CTR."""

    impressions: list[int]
    clicks: list[int]
    searches: Mapping[str, int]
    ctr: float


def searches_of(traffic: Sequence[TrafficQuery]) -> dict[str, int]:
    """Return how often each query is searched, by its share of traffic."""
    found: dict[str, int] = defaultdict(int)
    for each in traffic:
        found[query_text(each.text)] += max(1, round(each.share * SEARCHES))
    return dict(found)


def shown(pool: Sequence[JudgedPair], searches: Mapping[str, int], *, seed: int) -> Shown:
    """Simulate impressions and clicks of pairs: one impression a search, a click by the true grade's gain."""
    rng = np.random.default_rng(seed)
    impressions = [min(MOST_IMPRESSIONS, searches.get(pair.query, 1)) for pair in pool]
    rates = [NOISE_CLICKS + RELEVANT_CLICKS * GAINS[Grade(pair.grade)] for pair in pool]
    clicks = rng.binomial(impressions, rates).tolist()
    return Shown(impressions, clicks, searches, sum(clicks) / sum(impressions))


def windows_of(
    pool: Sequence[JudgedPair], seen: Shown, scores: Sequence[float], *, without: Collection[int]
) -> list[EngagementWindow]:
    """Return what the engagement topic would say of the pairs of a pool, but for those in `without`."""
    items: dict[str, list[ItemEngagement]] = defaultdict(list)
    for place, pair in enumerate(pool):
        if place not in without:
            count = seen.impressions[place]
            items[pair.query].append(
                ItemEngagement(
                    item_id=pair.item_id,
                    impressions=count,
                    clicks=seen.clicks[place],
                    expected_clicks=count * seen.ctr,
                    scored=count,
                    score_sum=count * scores[place],
                )
            )
    return [
        EngagementWindow(
            query=query,
            window_start_s=0,
            window_s=3600,
            updated_ms=1,
            items=found,
            searches=seen.searches.get(query, 1),
        )
        for query, found in items.items()
    ]


def drawn(
    given: Sequence[Candidate], count: int, *, asked: dict[str, int], uniform_share: float, rng: random.Random
) -> list[Candidate]:
    """Return `count` candidates as the sampler sends them: a share by lot, the rest each the best at its turn.

    `asked` counts the pairs of each query that were sent before, and is brought up to date.
    """
    by_lot = rng.sample(given, min(round(count * uniform_share), len(given)))
    taken = {each.pair for each in by_lot}
    for each in by_lot:
        asked[each.query] = asked.get(each.query, 0) + 1
    found = list(by_lot)
    heap = [(-each.priority(asked.get(each.query, 0)), each.pair, each) for each in given]
    heapq.heapify(heap)
    while heap and len(found) < count:
        priority, pair, each = heapq.heappop(heap)
        if pair in taken:
            continue
        now = -each.priority(asked.get(each.query, 0))
        if now > priority:
            # Another pair of its query was sent meanwhile.
            heapq.heappush(heap, (now, pair, each))
            continue
        found.append(each)
        taken.add(pair)
        asked[each.query] = asked.get(each.query, 0) + 1
    return found


def labels_for(target: float, sizes: Sequence[int], figures: Sequence[float]) -> float | None:
    """Return at how many labels a curve first reaches `target`, in a straight line between sizes; None if never.

    >>> labels_for(0.85, [100, 200, 400], [0.8, 0.9, 0.95])
    150.0
    """
    for place, figure in enumerate(figures):
        if figure >= target:
            if place == 0:
                return float(sizes[0])
            share = (target - figures[place - 1]) / (figure - figures[place - 1])
            return sizes[place - 1] + share * (sizes[place] - sizes[place - 1])
    return None


@click.command(help=__doc__)
@click.option("--answers", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--sizes", default="250,500,1000,2000,4000", show_default=True, help="Judgements.")
@click.option("--start", default=500, show_default=True, type=click.IntRange(1), help="Pairs of people.")
@click.option("--eval-queries", default=450, show_default=True, type=click.IntRange(3))
@click.option("--eval-per-query", default=12, show_default=True, type=click.IntRange(2))
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1))
def main(
    *, answers: Path, sizes: str, start: int, eval_queries: int, eval_per_query: int, seeds: int
) -> None:
    """Train all ways at every size and print the curves."""
    announce("ops.bench.sampling_labels")
    settings = load()
    counts = sorted({int(each) for each in sizes.split(",")})
    train_set, _ = student_answers.read(answers, "shop")
    held_out = shop_pairs(sampled_queries=eval_queries, per_query=eval_per_query)
    unseen = {pair.query for pair in held_out}
    kept = [each for each in train_set if each.pair.query not in unseen]
    first, pool = kept[:start], [each for each in kept[start:] if each.judgement]
    if len(pool) < counts[-1]:
        raise click.ClickException(f"expected a pool of at least {counts[-1]} judgements, got {len(pool)}")
    mean_tokens = float(np.mean([_tokens(each) for each in pool]))
    click.echo(
        f"first student: {len(first)} pairs of people; pool: {len(pool)} judgements of "
        f"{len({each.pair.query for each in pool})} queries, {mean_tokens:.0f} teacher tokens each; "
        f"evaluated on {len(held_out)} pairs of {len(unseen)} other queries"
    )
    searches = searches_of(evaluation_shop().traffic)
    runs: dict[tuple[str, int], list[ScoredPairs]] = defaultdict(list)
    for seed in range(settings.students.seed, settings.students.seed + seeds):
        students = settings.students.model_copy(update={"seed": seed})
        opening = untrained(described("interaction", SCALE, students), students)
        train(opening, by_people(first), settings=students)
        runs["first", 0].append(scored_by(opening, held_out, bf16=True))
        for way in WAYS:
            for size, scored in curve(
                way,
                opening,
                pool,
                searches,
                counts,
                mean_tokens=mean_tokens,
                held_out=held_out,
                students=students,
                sampling=settings.sampling,
            ):
                runs[way, size].append(scored)
    tell(runs, counts)


def curve(
    way: str,
    opening: LoadedStudent,
    pool: Sequence[Answer],
    searches: Mapping[str, int],
    counts: Sequence[int],
    *,
    mean_tokens: float,
    held_out: Sequence[JudgedPair],
    students: Students,
    sampling: Sampling,
) -> list[tuple[int, ScoredPairs]]:
    """Return the held-out pairs under the student of each size."""
    rng = random.Random(f"{way} {students.seed}")
    pairs = [each.pair for each in pool]
    place_of = {(pair.query, pair.item_id): place for place, pair in enumerate(pairs)}
    seen = shown(pairs, searches, seed=students.seed)
    chosen: list[int] = []
    asked: dict[str, int] = {}
    student, found = opening, []
    for size in counts:
        began_s = time.monotonic()
        left = size * mean_tokens - sum(map(_tokens, (pool[place] for place in chosen)))
        wanted = max(0, round(left / mean_tokens))
        if way == SAMPLER:
            scores = score_pairs(student, [(pair.query, pair.item_text) for pair in pairs], bf16=True).scores
            shape = Shape(
                tail_exponent=sampling.tail_exponent, coec_prior=sampling.coec_prior, floor=sampling.floor
            )
            given = [
                each
                for window in windows_of(pairs, seen, scores.tolist(), without=set(chosen))
                for each in candidates(window, shape)
            ]
            sent = drawn(given, wanted, asked=asked, uniform_share=sampling.uniform_share, rng=rng)
            chosen += [place_of[each.pair] for each in sent]
        else:
            rest = sorted(set(range(len(pool))) - set(chosen))
            if way == IMPRESSION:
                # Impressions in the order of a lot, each pair at its first: exponential races (Efraimidis and
                # Spirakis 2006).
                rest.sort(key=lambda place: rng.expovariate(searches.get(pairs[place].query, 1)))
            else:
                rng.shuffle(rest)
            chosen += rest[:wanted]
        student = LoadedStudent(opening.description, copy.deepcopy(opening.model), opening.tokeniser)
        train(student, judged([pool[place] for place in chosen]), settings=students)
        found.append((size, scored_by(student, held_out, bf16=True)))
        tail = sum(pairs[place].query in searches and searches[pairs[place].query] <= 1 for place in chosen)
        click.echo(
            f"seed {students.seed}, {way}, {size}: {len(chosen)} pairs of "
            f"{len({pairs[place].query for place in chosen})} queries, {tail / len(chosen):.0%} of them searched "
            f"once, {sum(map(_tokens, (pool[place] for place in chosen))):,} tokens, "
            f"{time.monotonic() - began_s:.0f} s"
        )
    return found


def tell(runs: Mapping[tuple[str, int], Sequence[ScoredPairs]], counts: Sequence[int]) -> None:
    """Print the curves by traffic class, and how many labels the sampler needs for what the others reach."""
    first = runs["first", 0]
    for cut in ("all", "tail"):
        parts = {key: [each.cuts()[cut] for each in found] for key, found in runs.items()}
        weights = bootstrap.resampled_weights(np.random.default_rng(7), queries=parts["first", 0][0].queries)
        metric = METRICS["auc"]
        opening = bootstrap.mean_estimate(metric, parts["first", 0], weights)
        of = f"{parts['first', 0][0].queries} queries, {len(first)} seeds"
        click.echo(f"\nAUC, {cut} ({of}); first student {told(opening)}")
        means: dict[str, list[float]] = {way: [] for way in WAYS}
        for size in counts:
            parts_told = []
            for way in WAYS:
                estimate = bootstrap.mean_estimate(metric, parts[way, size], weights)
                means[way].append(float("nan") if estimate.value is None else estimate.value)
                parts_told.append(f"{way} {told(estimate)}")
            click.echo(f"{size:6d} labels  {'  '.join(parts_told)}")
            for other in WAYS[1:]:
                found = bootstrap.mean_difference(metric, parts[SAMPLER, size], parts[other, size], weights)
                click.echo(f"               sampler - {other}: {told(found, sign='+')}")
        for other in WAYS[1:]:
            best = max(means[other])
            ours, theirs = (labels_for(best, counts, means[way]) for way in (SAMPLER, other))
            if ours is None or theirs is None:
                click.echo(
                    f"the sampler does not reach the best {other}, {best:.4f}, within {counts[-1]} labels"
                )
            else:
                click.echo(
                    f"the best {other}, {best:.4f}: {theirs:.0f} labels, sampler {ours:.0f}, "
                    f"{ours / theirs:.0%} of them"
                )


def _tokens(answer: Answer) -> int:
    return answer.judgement.prompt_tokens + answer.judgement.completion_tokens if answer.judgement else 0


if __name__ == "__main__":
    main()
