"""What the simulated shop's experiment truly is worth, and how good the lexical scorer is. No Kafka.

    python -m ops.bench.shop_truth [--searches 20000] [--catalogue FOLDER]

Every search is answered by both arms for the same shopper, so the difference is that of the ranking alone.
`expected` sums the shoppers' probabilities and is the truth; `drawn` lets them click, as live traffic does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from ops.settings import Settings, load
from ops.shop.process import build_engine
from ops.shop.queries import traffic_classes
from ops.shop.scorers import LexicalScorer, Scorer
from ops.shop.shop import Shop, fingerprint, open_shop
from ops.shop.shoppers import Population, browse, chances, expected
from ops.shop.truth import GAINS, Grade
from streams.records import Action, TrafficClass

FloatArray = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(slots=True)
class Totals:
    """Sums over the pages of one arm."""

    impressions: int = 0
    exact: int = 0
    expected_clicks: float = 0.0
    expected_purchases: float = 0.0
    clicks: int = 0
    purchases: int = 0

    def line(self, name: str) -> str:
        """Return the arm's rates as one line of text."""
        return (
            f"{name:22} expected CTR {self.expected_clicks / self.impressions:.4f} "
            f"CVR {self.expected_purchases / self.expected_clicks:.4f} | "
            f"drawn CTR {self.clicks / self.impressions:.4f} "
            f"CVR {self.purchases / max(1, self.clicks):.4f} | "
            f"exact {self.exact / self.impressions:.3f} of {self.impressions} impressions"
        )


def simulate(settings: Settings, shop: Shop, *, searches: int) -> dict[str, dict[str, Totals]]:
    """Return totals by class (`all`, `head`, `torso`, `tail`) and arm, over `searches` pages an arm."""
    engine = build_engine(settings, shop)
    population = Population(shoppers=settings.shop.shoppers, seed=settings.shop.seed)
    rng = np.random.default_rng([settings.shop.seed, 3])
    classes = classes_of(settings, shop)
    arms = (settings.experiment.control, settings.experiment.treatment)
    totals = {name: {arm: Totals() for arm in arms} for name in ("all", "head", "torso", "tail")}
    chosen = rng.choice(len(shop.queries), size=searches, p=[query.share for query in shop.queries])
    for number in chosen.tolist():
        shopper = population.draw(rng)
        query = shop.queries[number].text
        for arm in arms:
            page = engine.rank(query, engine.scorer_of(arm))
            grades = [shop.truth.grade(query, each.item.item_id) for each in page.placements]
            odds = chances(
                shopper, [GAINS[grade] for grade in grades], [each.item.price for each in page.placements]
            )
            actions = [deed.action for deed in browse(rng, odds)]
            clicks, purchases = expected(odds)
            for name in ("all", classes[number]):
                sums = totals[name][arm]
                sums.impressions += len(grades)
                sums.exact += grades.count(Grade.EXACT)
                sums.expected_clicks += clicks
                sums.expected_purchases += purchases
                sums.clicks += actions.count(Action.CLICK)
                sums.purchases += actions.count(Action.PURCHASE)
    return totals


def classes_of(settings: Settings, shop: Shop) -> list[TrafficClass]:
    """Return the traffic class of each of the shop's queries."""
    streams = settings.streams
    return traffic_classes(shop.queries, head_share=streams.head_share, torso_share=streams.torso_share)


def auc(scores: FloatArray, relevant: Sequence[bool]) -> float:
    """Return the area under the ROC curve, ties counted half; NaN if all or none are relevant."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = np.asarray(relevant, dtype=bool)
    hits = int(positive.sum())
    if hits in (0, len(positive)):
        return float("nan")
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * (len(positive) - hits)))


def pair_aucs(settings: Settings, shop: Shop, scorer: Scorer) -> dict[str, tuple[float, int, float]]:
    """Return by traffic class: AUC, how many pairs, and the share of exact ones among them.

    The AUC is that of exact against the rest over all (query, candidate) pairs; each query counts once,
    however often it is searched for. In the head nearly every candidate is exact, so its AUC says little.
    """
    engine = build_engine(settings, shop)
    scores: dict[str, list[float]] = {name: [] for name in ("all", "head", "torso", "tail")}
    exact: dict[str, list[bool]] = {name: [] for name in scores}
    for query, name in zip(shop.queries, classes_of(settings, shop), strict=True):
        items = engine.candidates(query.text)
        for each in ("all", name):
            scores[each] += scorer.score(query.text, items)
            exact[each] += [shop.truth.grade(query.text, item.item_id) is Grade.EXACT for item in items]
    return {
        name: (auc(np.asarray(scores[name]), exact[name]), len(exact[name]), float(np.mean(exact[name])))
        for name in scores
        if exact[name]
    }


@click.command(help=__doc__)
@click.option("--searches", default=20_000, show_default=True, help="Pages an arm.")
@click.option("--catalogue", type=click.Path(path_type=Path), help="Folder of a real catalogue.")
def main(searches: int, catalogue: Path | None) -> None:
    """Print the truth."""
    settings = load()
    if catalogue is not None:
        settings = settings.model_copy(
            update={"shop": settings.shop.model_copy(update={"catalogue": catalogue})}
        )
    shop = open_shop(settings.shop)
    click.echo(f"{len(shop.items)} items, {len(shop.queries)} queries, fingerprint {fingerprint(shop)}")
    for name, arms in simulate(settings, shop, searches=searches).items():
        for arm, totals in arms.items():
            click.echo(f"{name:6}{totals.line(arm)}")
        control, treatment = (
            arms[arm] for arm in (settings.experiment.control, settings.experiment.treatment)
        )
        rates = [
            (each.expected_clicks / each.impressions, each.expected_purchases / each.expected_clicks)
            for each in (control, treatment)
        ]
        click.echo(
            f"{name:6}true uplift            CTR {rates[1][0] / rates[0][0] - 1:+.1%}, "
            f"CVR {rates[1][1] / rates[0][1] - 1:+.1%}"
        )
    for name, (area, pairs, share) in pair_aucs(settings, shop, LexicalScorer(shop.items.values())).items():
        click.echo(f"{name:6}lexical AUC {area:.3f} over {pairs} pairs, {share:.1%} exact")


if __name__ == "__main__":
    main()
