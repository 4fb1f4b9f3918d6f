"""What each version that a loop published is truly worth: quality on unseen queries, CTR and CVR over the first one.

    python -m ops.bench.loop_uplift --run SEED=RUN_DIR [--run SEED=RUN_DIR ...] [--fast] [--queries 250]

RUN_DIR is what `relevance demo` left behind, SEED the shop's (RELEVANCE_SHOP__SEED) that it ran with; --fast if so.
A live experiment of minutes cannot tell some percent of CTR from chance. The shop's truth can: of each traffic class
--queries are drawn, every version ranks their candidates as the ad engine does (the same cascade, bids and graphs, no
servers), and the probabilities that the same shoppers click and buy are summed. Queries weigh as traffic asks them;
intervals are 95 % over resamples of queries within classes. AUC and nDCG@10 are on the run's unseen queries. The
control is the first student, which no update touches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from ops.bench.demo_run import settings_of_demo
from ops.bench.machine import announce
from ops.bench.shop_truth import classes_of
from ops.dashboard.loop_view import Figure
from ops.evaluation.pairs import Floats
from ops.loop.cold_start import cache_folder, of_run
from ops.loop.evaluation import Gain, gains, scored_version
from ops.loop.summary import NAMES, figure_text
from ops.scoring import item_vectors
from ops.scoring.client import cascaded
from ops.scoring.scorer import text_of
from ops.scoring.vectors import VectorTables
from ops.settings import Settings
from ops.shop import history
from ops.shop.ad_engine import AdEngine
from ops.shop.items import Item
from ops.shop.process import build_engine
from ops.shop.shop import Shop, open_shop
from ops.shop.shoppers import Population, Shopper, chances, expected
from ops.shop.truth import GAINS
from streams.item_text import content_hash, query_text
from students.export.onnx_student import OnnxStudent
from students.publishing.repository import versions_of
from students.scores import towers_score
from students.version_folder import Kind, Manifest, path_of, read_manifest

CLASSES = ("head", "torso", "tail")
RESAMPLES = 2_000
#: Sums of a query's pages, in this order.
IMPRESSIONS, CLICKS, PURCHASES = range(3)
RATES = {"CTR": (CLICKS, IMPRESSIONS), "CVR": (PURCHASES, CLICKS)}


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries that stand for the traffic: `weights` [q] sum to 1, `strata` [q] are classes of traffic."""

    texts: list[str]
    weights: Floats
    strata: list[str]


@dataclass(frozen=True, slots=True)
class Uplift:
    """A rate's relative change, 0.01 is one percent, with its value in each resample."""

    value: float
    drawn: Floats

    def __str__(self) -> str:
        lower, upper = np.quantile(self.drawn, [0.025, 0.975])
        return f"{self.value:+.1%} [{lower:+.1%}, {upper:+.1%}]"


def asked_of(shop: Shop, strata: Sequence[str], *, queries: int, rng: np.random.Generator) -> Asked:
    """Return up to `queries` of each class, weighted so that each class keeps its share of the traffic."""
    shares = np.array([query.share for query in shop.queries])
    texts: list[str] = []
    weights: list[float] = []
    chosen_strata: list[str] = []
    for name in CLASSES:
        places = np.flatnonzero(np.array(strata) == name)
        if not len(places):
            continue
        chosen = rng.choice(places, size=min(queries, len(places)), replace=False)
        weight = shares[chosen] / shares[chosen].sum() * shares[places].sum()
        texts += [shop.queries[place].text for place in chosen.tolist()]
        weights += weight.tolist()
        chosen_strata += [name] * len(chosen)
    total = np.array(weights)
    return Asked(texts, total / total.sum(), chosen_strata)


def uplift(rate: str, asked: Asked, treatment: Floats, control: Floats, *, cut: str, seed: int) -> Uplift:
    """Return the relative change of a rate; sums are [q, 3] of each query, `cut` is a class or "all".

    The resamples are of the queries within each class, the same for every rate and version of a seed.
    """
    rng = np.random.default_rng(seed)
    counts = np.zeros((RESAMPLES, len(asked.texts)))
    for name in CLASSES:
        places = np.flatnonzero(np.array(asked.strata) == name)
        if len(places):
            drawn = rng.multinomial(len(places), np.full(len(places), 1 / len(places)), size=RESAMPLES)
            counts[:, places] = drawn
    inside = np.array([cut in ("all", each) for each in asked.strata])
    over, under = RATES[rate]

    def change(weights: Floats) -> Floats:
        mine, theirs = (weights @ sums for sums in (treatment, control))
        found: Floats = (mine[..., over] / mine[..., under]) / (theirs[..., over] / theirs[..., under]) - 1
        return found

    weights = asked.weights * inside
    return Uplift(float(change(weights)), change(counts * weights))


def mean_of(found: Sequence[Uplift]) -> Uplift:
    """Return the mean over shops that have nothing in common."""
    return Uplift(
        float(np.mean([each.value for each in found])), np.mean([each.drawn for each in found], axis=0)
    )


class VersionScorer:
    """An arm's scorer as `ops.scoring.client.ScoringClient` scores, with the graphs in this process."""

    def __init__(self, student: OnnxStudent, towers: OnnxStudent, tables: VectorTables, *, best: int) -> None:
        """`best` is how many candidates `student` scores, of those that `towers` puts first."""
        self.version = student.manifest.name
        self._student, self._towers, self._tables, self._best = student, towers, tables, best

    def score(self, query: str, items: Sequence[Item]) -> list[float]:
        """Return one score in [0, 1] per item, in order."""
        manifest = self._towers.manifest
        vectors = self._tables(manifest.version, [item.item_id for item in items])
        if not vectors.known.all():
            raise click.ClickException(f"{self.version}: {int((~vectors.known).sum())} items have no vector")
        text = query_text(query)
        first = towers_score(
            self._towers.query_vectors([text])[0],
            vectors.matrix,
            slope=manifest.slope,
            offset=manifest.offset,
            gains=manifest.gains,
        )
        best = np.argsort(-first, kind="stable")[: self._best].tolist()
        scores = self._student.scores([text] * len(best), [text_of(items[place]) for place in best])
        found: list[float] = cascaded(first, best, scores).tolist()
        return found


def check_shop(settings: Settings, shop: Shop, representation: int) -> None:
    """Raise ClickException unless a run's item vectors were made of this shop's items; VersionError."""
    table = item_vectors.load(path_of(versions_of(settings), representation))
    made_of = dict(zip(table.item_ids, table.content_hashes, strict=True))
    if made_of != {item_id: content_hash(text_of(item)) for item_id, item in shop.items.items()}:
        raise click.ClickException(
            f"{settings.run_dir} is of another shop than that of seed {settings.shop.seed}"
        )


def pages(
    engine: AdEngine, shop: Shop, scorer: VersionScorer, asked: Asked, shoppers: Sequence[Shopper]
) -> Floats:
    """Return what the shoppers are expected to see, click and buy of each query's page, shape [q, 3], a shopper."""
    sums = np.zeros((len(asked.texts), 3))
    for place, query in enumerate(asked.texts):
        page = engine.rank(query, scorer)
        if page.fallback:
            raise click.ClickException(f"{scorer.version} could not score {query!r}")
        gains = [GAINS[shop.truth.grade(query, each.item.item_id)] for each in page.placements]
        prices = [each.item.price for each in page.placements]
        acted = np.array([expected(chances(shopper, gains, prices)) for shopper in shoppers])
        sums[place] = (len(gains), *acted.mean(axis=0))
    return sums


def published(settings: Settings, kind: Kind) -> list[Manifest]:
    """Return the versions of a kind that a run has, in order."""
    folders = sorted(versions_of(settings).glob("[0-9]*"), key=lambda folder: int(folder.name))
    return [manifest for folder in folders if (manifest := read_manifest(folder)).kind == kind]


def gain_text(found: Sequence[Gain]) -> str:
    """Return each metric's last figure and difference from the first student."""
    told = []
    for gain in found:
        value, change = gain.last.value, gain.difference
        if value is None or change.value is None:
            told.append(f"{gain.cut} {NAMES[gain.metric]} none ({gain.last.why or change.why})")
            continue
        difference = figure_text(Figure(change.value, change.lower, change.upper))
        told.append(f"{gain.cut} {NAMES[gain.metric]} {value:.3f} {difference}")
    return "  ".join(told)


def look(settings: Settings, *, queries: int, shoppers: int) -> Mapping[tuple[str, str], Uplift]:
    """Print every version of a run and return the last one's uplifts by rate and cut."""
    students, towers = published(settings, "interaction"), published(settings, "representation")
    if not students or not towers:
        raise click.ClickException(f"{settings.run_dir} holds no students")
    shop = open_shop(settings.shop)
    check_shop(settings, shop, towers[0].version)
    engine = build_engine(settings, shop)
    seed = settings.shop.seed
    rng = np.random.default_rng([seed, 5])
    asked = asked_of(shop, classes_of(settings, shop), queries=queries, rng=rng)
    population = Population(shoppers=settings.shop.shoppers, seed=seed)
    crowd = [population.draw(rng) for _ in range(shoppers)]
    unseen = of_run(settings.run_dir, cache_folder()).unseen
    mark = history.read_mark(settings.run_dir)
    began_ms = mark.ends_ms if mark else students[0].created_ms
    versions, precision = versions_of(settings), settings.serving.served_precision
    first_stage = OnnxStudent.open(path_of(versions, towers[0].version), precision=precision)
    tables = VectorTables(versions)
    first = scored_version(versions, students[0].version, unseen, precision=precision)
    print(
        f"\nseed {seed}: {len(students) - 1} versions after the first; "
        f"{len(asked.texts)} queries ({', '.join(f'{name} {asked.strata.count(name)}' for name in CLASSES)}), "
        f"{shoppers} shoppers each"
    )
    control: Floats | None = None
    found: dict[tuple[str, str], Uplift] = {}
    for manifest in students:
        scorer = VersionScorer(
            OnnxStudent.open(path_of(versions, manifest.version), precision=precision),
            first_stage,
            tables,
            best=settings.scoring.interaction_candidates,
        )
        sums = pages(engine, shop, scorer, asked, crowd)
        if control is None:
            control = sums
            rates = asked.weights @ sums
            print(
                f"{manifest.name}, control: CTR {rates[CLICKS] / rates[IMPRESSIONS]:.2%}, "
                f"CVR {rates[PURCHASES] / rates[CLICKS]:.2%}"
            )
            continue
        minutes = (manifest.created_ms - began_ms) / 60_000
        found = {
            (rate, cut): uplift(rate, asked, sums, control, cut=cut, seed=seed)
            for rate in RATES
            for cut in ("all", *CLASSES)
        }
        now = scored_version(versions, manifest.version, unseen, precision=precision)
        print(f"{manifest.name}, after {minutes:.1f} min: {gain_text(gains(first, now))}")
        for rate in RATES:
            told = "  ".join(f"{cut} {found[rate, cut]}" for cut in ("all", *CLASSES))
            print(f"  {rate} {told}", flush=True)
    return found


@click.command(help=__doc__)
@click.option("--run", "runs", multiple=True, required=True, metavar="SEED=RUN_DIR")
@click.option("--fast", is_flag=True, help="The demos ran with --fast.")
@click.option("--queries", default=250, show_default=True, type=click.IntRange(10), help="Of each class.")
@click.option("--shoppers", default=50, show_default=True, type=click.IntRange(1), help="A query.")
def main(*, runs: Sequence[str], fast: bool, queries: int, shoppers: int) -> None:
    """Print the versions of every run, and the mean of the last ones' uplifts."""
    announce("ops.bench.loop_uplift")
    last = []
    for each in runs:
        seed, _, folder = each.partition("=")
        if not seed.isdigit() or not folder or not Path(folder).is_dir():
            raise click.UsageError(f"expected --run SEED=RUN_DIR with a folder that is there, got {each!r}")
        settings = settings_of_demo({"SHOP__SEED": seed, "RUN_DIR": Path(folder).resolve()}, fast=fast)
        last.append(look(settings, queries=queries, shoppers=shoppers))
    whole = [found for found in last if found]
    print(f"\nlast version, mean of {len(whole)} shops of {len(last)}")
    for rate in RATES if whole else ():
        told = "  ".join(
            f"{cut} {mean_of([found[rate, cut] for found in whole])}" for cut in ("all", *CLASSES)
        )
        print(f"  {rate} {told}")


if __name__ == "__main__":
    main()
