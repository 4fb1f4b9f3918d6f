"""Is engagement worth its place in a score? The simulated shop, queries that nothing was fitted on, 95 % intervals.

    python -m ops.bench.engagement_correction [--searches N] [--queries N] [--items N] [--seed N]

Traffic ranked by the lexical scorer gives pairs their clicks and expected clicks. Two content scores are corrected:
the lexical one and the oracle with noise, which stands for a good student; both are calibrated first on the half of
the queries on which the correction is fitted. The other half is scored: all candidates of its queries, by truth.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict

import numpy as np

from ops.bench.machine import announce
from ops.evaluation import bootstrap, calibration
from ops.evaluation.metrics import METRICS
from ops.evaluation.pairs import Floats, ScoredPairs, scored_pairs
from ops.settings import Settings, load
from ops.shop.oracle import NoisyOracleScorer
from ops.shop.process import build_engine
from ops.shop.scorers import LexicalScorer, Scorer
from ops.shop.shop import Shop, open_shop
from ops.shop.shoppers import Population, browse, chances
from ops.shop.truth import GAINS
from streams.engagement import PositionCurve
from streams.records import Action
from students.engagement_correction import fit

SHOWN_METRICS = ("ndcg_at_10", "auc", "pr_auc", "ece")
Engagement = dict[tuple[str, str], list[float]]


def engagement(settings: Settings, shop: Shop, *, searches: int) -> Engagement:
    """Return clicks and expected clicks by (query, item), of searches that the lexical scorer ranked."""
    engine = build_engine(settings, shop)
    lexical = engine.scorer_of(settings.experiment.control)
    population = Population(shoppers=settings.shop.shoppers, seed=settings.shop.seed)
    rng = np.random.default_rng([settings.shop.seed, 5])
    curve = PositionCurve()
    found: Engagement = defaultdict(lambda: [0.0, 0.0])
    chosen = rng.choice(len(shop.queries), size=searches, p=[query.share for query in shop.queries])
    for number in chosen.tolist():
        page = engine.rank(shop.queries[number].text, lexical)
        ids = [each.item.item_id for each in page.placements]
        gains = [GAINS[shop.truth.grade(page.query, item_id)] for item_id in ids]
        deeds = browse(
            rng, chances(population.draw(rng), gains, [each.item.price for each in page.placements])
        )
        clicked = {deed.position for deed in deeds if deed.action is Action.CLICK}
        for position, item_id in enumerate(ids, 1):
            counts = found[page.query, item_id]
            counts[0] += position in clicked
            counts[1] += curve.expected_clicks(position)
            curve.learn(position, 1, int(position in clicked))
    return found


def evaluate(settings: Settings, shop: Shop, counts: Engagement, scorer: Scorer) -> None:
    """Fit on half of the queries, score the other half, and print both with their difference."""
    engine = build_engine(settings, shop)
    rng = np.random.default_rng([settings.shop.seed, 6])
    texts = [query.text for query in shop.queries]
    rows: list[tuple[str, float, str]] = []
    engaged: list[tuple[float, float]] = []
    for text in texts:
        items = engine.candidates(text)
        for item, score in zip(items, scorer.score(text, items), strict=True):
            clicked, due = counts.get((text, item.item_id), (0.0, 0.0))
            rows.append((text, score, str(shop.truth.grade(text, item.item_id))))
            engaged.append((clicked, due))
    pairs = scored_pairs(
        gains={str(grade): gain for grade, gain in GAINS.items()},
        queries=[row[0] for row in rows],
        scores=[row[1] for row in rows],
        grades=[row[2] for row in rows],
    )
    clicks, expected = np.array(engaged).T
    training = rng.permutation(pairs.queries)[pairs.query] % 2 == 0
    calibrated = pairs.with_scores(calibration.fit(pairs.select(training), scorer="").apply(pairs.score))
    correction = fit(
        calibrated.score[training],
        clicks[training],
        expected[training],
        pairs.gain[training],
        pairs.query[training],
        rng,
    )
    corrected = calibrated.with_scores(correction.apply(calibrated.score, clicks, expected))
    print(f"{scorer.version}: weight {correction.weight:.2f}, prior {correction.prior:g} expected clicks")
    for name, kept in (
        ("all candidates", ~training),
        ("candidates with engagement", ~training & (expected > 0)),
        ("with 1 expected click or more", ~training & (expected >= 1)),
    ):
        _compare(name, calibrated.select(kept), corrected.select(kept), rng)
    popular = ~training & (pairs.gain == 0) & (expected >= 1)
    moved = (corrected.score - calibrated.score)[popular]
    print(
        f"  irrelevant pairs with 1 expected click or more: {int(popular.sum())}, moved by {moved.mean():+.4f}"
        f" on average, {moved.max():+.4f} at most; above 0.5 before {int((calibrated.score[popular] > 0.5).sum())}, "
        f"after {int((corrected.score[popular] > 0.5).sum())}"
    )


def _compare(name: str, before: ScoredPairs, after: ScoredPairs, rng: np.random.Generator) -> None:
    print(f"  {name}: {len(before)} pairs of {before.queries} queries")
    weights: Floats = bootstrap.resampled_weights(rng, queries=before.queries, resamples=300)
    for metric in (name for name in METRICS if name in SHOWN_METRICS):
        old = bootstrap.estimate(METRICS[metric], before, weights)
        change = bootstrap.difference(METRICS[metric], after, before, weights)
        value = "unknown" if old.value is None else f"{old.value:.4f}"
        if change.value is None or change.lower is None or change.upper is None:
            print(f"    {metric:10} {value}, change unknown: {change.why}")
        else:
            print(
                f"    {metric:10} {value}, change {change.value:+.4f} [{change.lower:+.4f}, {change.upper:+.4f}]"
            )


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--searches", type=int, default=40_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    announce("ops.bench.engagement_correction")
    sizes = {
        "RELEVANCE_SHOP__ITEMS": str(arguments.items),
        "RELEVANCE_SHOP__QUERIES": str(arguments.queries),
        "RELEVANCE_SHOP__SEED": str(arguments.seed),
    }
    settings = load(sizes)
    shop = open_shop(settings.shop)
    counts = engagement(settings, shop, searches=arguments.searches)
    lexical = LexicalScorer(shop.items.values())
    for scorer in (lexical, NoisyOracleScorer(shop.truth, noise=0.3, seed=arguments.seed)):
        evaluate(settings, shop, counts, scorer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
