"""Does the experiment's statistics keep its promises? Simulated A/A and A/B tests whose truth is known.

Each simulated shopper has a click and a purchase propensity of their own and makes a heavy-tailed number of
searches; what a shopper sees has an appeal that all impressions of a look share; a day of history was lived
with the same propensities. Data accumulate over the looks, as on the page. The arms are those of
`ops.experiments.assignment`, the intervals those of `ops.experiments.statistics`; aggregates are computed in
numpy here, for speed (that ClickHouse computes the same ones is a test of its own).

Run `python -m ops.bench.aa_tests`; options with `--help`.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from math import nan

import msgspec
import numpy as np
import numpy.typing as npt
from tea_tasting.aggr import Aggregates

from ops.experiments.aggregates import to_aggregates
from ops.experiments.assignment import assign
from ops.experiments.statistics import METRICS, Estimate, Interval, effect
from ops.settings import Experiment

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
ARMS = [("control", 0.5), ("treatment", 0.5)]
IMPRESSIONS_PER_SEARCH = 10
SEARCHES_PER_LOOK = 0.2
CLICK_SHARE = 0.08
PURCHASE_SHARE = 0.15
MEAN_PRICE = 30.0


class Plan(msgspec.Struct, frozen=True):
    """One simulated experiment. `uplift` is the true relative effect on clicks; purchases follow clicks."""

    label: str
    uplift: float
    shoppers: int
    looks: int
    seed: int
    number: int
    settings: Experiment


class Outcome(msgspec.Struct, frozen=True):
    """What one experiment showed of one metric. *missed*: an interval without the truth, at some look or at
    the end; `found`: an always-valid interval without zero at some look; the rest is of the last look."""

    sequential_missed: bool
    absolute_missed: float
    peeking_missed: bool
    sequential_missed_at_end: bool
    fixed_missed_at_end: bool
    found: bool
    relative: float
    variance_reduction: float
    width_ratio: float


def simulate(plan: Plan, treated: Mask, random: np.random.Generator) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Return the shoppers' cumulative figures, shape [looks, shoppers, variables], and the look at which each
    is first seen, shape [shoppers]; `plan.looks` for those who never come."""
    propensity = np.minimum(CLICK_SHARE * random.lognormal(-0.125, 0.5, plan.shoppers), 0.3)
    buying = np.minimum(PURCHASE_SHARE * random.lognormal(-0.125, 0.5, plan.shoppers), 0.6)
    # Mean as stated; the busiest percent makes about a tenth of all searches.
    busy = SEARCHES_PER_LOOK * random.lognormal(-0.5, 1.0, plan.shoppers)
    history = _activity(busy * plan.looks / 2, propensity, buying, random)
    shape = (plan.looks, plan.shoppers)
    lifted = propensity * np.where(treated, 1 + plan.uplift, 1.0)
    spread_busy, spread_lifted, spread_buying = (
        np.broadcast_to(each, shape) for each in (busy, lifted, buying)
    )
    figures = _activity(spread_busy, spread_lifted, spread_buying, random).cumsum(axis=0)
    seen = figures[:, :, 0] > 0
    first = np.where(seen.any(axis=0), seen.argmax(axis=0), plan.looks)
    before = np.broadcast_to(history[:, :2], (*shape, 2))
    return np.concatenate([figures, before], axis=2), first


def _activity(
    searches_mean: Floats, propensity: Floats, buying: Floats, random: np.random.Generator
) -> Floats:
    """Return impressions, clicked impressions, clicks, purchases and revenue on the last axis."""
    searches = random.poisson(searches_mean)
    # The mean appeal of n searches, each exponential, is gamma with shape n.
    appeal = random.gamma(np.maximum(searches, 1)) / np.maximum(searches, 1)
    impressions = searches * IMPRESSIONS_PER_SEARCH
    clicked = random.binomial(impressions, propensity * np.minimum(appeal, 2.5))
    clicks = clicked + random.binomial(clicked, 0.1)
    purchases = random.binomial(clicks, buying)
    # So is the sum of n exponential prices.
    revenue = np.where(purchases > 0, random.gamma(np.maximum(purchases, 1)), 0.0) * MEAN_PRICE
    return np.stack([impressions, clicked, clicks, purchases, revenue], axis=-1).astype(np.float64)


def run(plan: Plan) -> dict[str, Outcome]:
    """Simulate one experiment, look at it `plan.looks` times, and return the outcomes by metric."""
    random = np.random.default_rng([plan.seed, plan.number])
    experiment = f"{plan.label}-{plan.seed}-{plan.number}"
    arms = [assign(experiment=experiment, unit=f"s{n}", salt="", arms=ARMS) for n in range(plan.shoppers)]
    treated = np.array([arm == "treatment" for arm in arms])
    figures, first = simulate(plan, treated, random)
    estimates: dict[str, list[Estimate]] = {metric.name: [] for metric in METRICS}
    for look, table in enumerate(figures):
        control, treatment = (_aggregates(table[arm & (first <= look)]) for arm in (~treated, treated))
        for metric in METRICS:
            found = effect(
                control,
                treatment,
                metric,
                alpha=plan.settings.alpha,
                expected_effect=plan.settings.expected_effect,
                min_shoppers=plan.settings.min_shoppers,
            )
            if found.estimate:
                estimates[metric.name].append(found.estimate)
    truths = {"ctr": plan.uplift, "cvr": 0.0, "revenue_per_shopper": plan.uplift}
    return {name: _outcome(seen, truths[name]) for name, seen in estimates.items() if seen}


def _aggregates(rows: Floats) -> Aggregates | None:
    if len(rows) < 2:
        return None
    covariance = np.cov(rows, rowvar=False)
    return to_aggregates(len(rows), rows.mean(axis=0).tolist(), covariance.tolist())


def _outcome(estimates: list[Estimate], truth: float) -> Outcome:
    last = estimates[-1]
    fixed, always = last.relative_fixed, last.relative_interval
    return Outcome(
        sequential_missed=any(_misses(each.relative_interval, truth) for each in estimates),
        # The truth in absolute terms is known only where there is no effect.
        absolute_missed=any(_misses(each.absolute_interval, 0.0) for each in estimates)
        if truth == 0
        else nan,
        peeking_missed=any(_misses(each.relative_fixed, truth) for each in estimates),
        sequential_missed_at_end=_misses(always, truth),
        fixed_missed_at_end=_misses(fixed, truth),
        found=any(each.sure for each in estimates),
        relative=last.relative,
        variance_reduction=last.variance_reduction,
        width_ratio=(always.upper - always.lower) / (fixed.upper - fixed.lower),
    )


def _misses(interval: Interval, truth: float) -> bool:
    return not interval.lower <= truth <= interval.upper


def summary(title: str, outcomes: list[dict[str, Outcome]]) -> str:
    """Return the lines that are printed for one series of experiments."""
    lines = [title]
    for metric in METRICS:
        of_metric = [each[metric.name] for each in outcomes if metric.name in each]
        if not of_metric:
            lines.append(f"  {metric.title}: no experiment had enough data")
            continue

        def share(name: str, of_metric: list[Outcome] = of_metric) -> str:
            return f"{np.mean([getattr(each, name) for each in of_metric]):7.1%}"

        def mean(name: str, of_metric: list[Outcome] = of_metric) -> float:
            return float(np.mean([getattr(each, name) for each in of_metric]))

        error = np.std([each.relative for each in of_metric]) / len(of_metric) ** 0.5
        narrower = 1 - np.mean([(1 - each.variance_reduction) ** 0.5 for each in of_metric])
        lines += [
            f"  {metric.title} ({len(of_metric)} experiments)      always-valid   fixed interval",
            f"    truth left out at some look   {share('sequential_missed')}"
            f"        {share('peeking_missed')}",
            f"    truth left out at the end     {share('sequential_missed_at_end')}"
            f"        {share('fixed_missed_at_end')}",
            f"    zero left out at some look    {share('found')}",
            f"    width, in fixed intervals     {mean('width_ratio'):7.2f}            1.00",
            f"    mean estimate {mean('relative'):+.2%}, its standard error {error:.2%}",
            f"    CUPED takes {mean('variance_reduction'):.0%} off the variance,"
            f" {narrower:.0%} off the width",
        ]
        if not np.isnan(mean("absolute_missed")):
            lines.append(
                f"    absolute effect: zero left out at some look {share('absolute_missed').strip()}"
            )
    return "\n".join(lines)


def main() -> None:
    """Run both series and print what they show."""
    parser = argparse.ArgumentParser(description="simulated A/A and A/B tests of the experiment's statistics")
    parser.add_argument("--tests", type=int, default=400, help="experiments a series")
    parser.add_argument("--looks", type=int, default=40)
    parser.add_argument("--shoppers", type=int, default=2000)
    parser.add_argument(
        "--uplift", type=float, default=0.1, help="relative effect on clicks in the A/B series"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args()
    print(f"$ python -m ops.bench.aa_tests {' '.join(sys.argv[1:])}".rstrip())
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    print(f"{options.shoppers} shoppers, {options.looks} looks, seed {options.seed}")
    settings = Experiment.model_validate({})
    print(f"alpha {settings.alpha}, tuned to a relative effect of {settings.expected_effect:.0%}")
    started_s = time.monotonic()
    with ProcessPoolExecutor(options.jobs) as pool:
        for label, uplift in (("A/A", 0.0), ("A/B", options.uplift)):
            plans = [
                Plan(label, uplift, options.shoppers, options.looks, options.seed, number, settings)
                for number in range(options.tests)
            ]
            print(summary(f"{label}: true uplift of clicks {uplift:+.1%}", list(pool.map(run, plans))))
    print(f"{time.monotonic() - started_s:.0f} s")


if __name__ == "__main__":
    main()
