"""What a flood of flipped judgements does to the loop's champion: guards and gate, update by update, beside a twin.

    python -m ops.bench.poisoned_judgements --answers DIR [--share 0.2] [--clean 6] [--poisoned 18] [--after 4]

DIR is what `ops.bench.student_judgements` wrote for the shop. The demo's trainer goes on from the demo's first
student with these judgements in updates of --size, --clean of them as the teacher gave them; then in --poisoned
updates a --share is flipped (the best grade's probability becomes the worst's, and so on down the
scale); then come --after more clean ones. The twin gets the same judgements unflipped throughout. AUC is that of the
champions on queries that nothing was learned from; differences are paired, intervals 95 % by query. At --size 200 and
one judgement a second an hour is 18 updates. Settings: those of the demo, over them RELEVANCE_*.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
import numpy as np

from ops.bench import student_answers
from ops.bench.demo_run import settings_of_demo
from ops.bench.estimates import told
from ops.bench.machine import announce
from ops.evaluation import bootstrap
from ops.evaluation.metrics import METRICS
from ops.evaluation.pairs import ScoredPairs
from ops.loop import cold_start
from ops.loop.cold_start import cache_folder
from ops.servers.steps import locked
from ops.settings import Settings
from ops.shop.judged_pairs import evaluation_shop
from streams.item_text import query_text
from streams.records import Judgement
from students import saved
from students.evaluation.graded import scored_by
from students.examples import LabelledPair, read_labelled
from students.grades import GradeScale
from students.incremental import state as states
from students.incremental.checkpoint import Checkpoint
from students.incremental.golden import Golden, read_golden
from students.incremental.judged import read
from students.incremental.lineage import Lineage
from students.incremental.state import Sorter
from students.incremental.updating import Updater

CLEAN, POISONED, AFTER = "clean", "poisoned", "after"
PARTITION = "judgements/0"


def flipped(judgement: Judgement, scale: GradeScale) -> Judgement:
    """Return a judgement with the order of its grades' probabilities turned around."""
    turned = dict(zip(scale.labels, reversed(scale.distribution(judgement.grades)), strict=True))
    gains = dict(zip(scale.labels, scale.gains, strict=True))
    return msgspec.structs.replace(
        judgement,
        grades=turned,
        grade=max(turned, key=turned.__getitem__),
        relevance_score=sum(share * gains[label] for label, share in turned.items()),
    )


def poison(
    judgements: Sequence[Judgement], scale: GradeScale, *, share: float, rng: random.Random
) -> list[Judgement]:
    """Return the judgements with about a `share` in [0, 1] of them flipped."""
    return [flipped(each, scale) if rng.random() < share else each for each in judgements]


class Follower:
    """A trainer fed by hand, in memory."""

    def __init__(self, settings: Settings, golden: Golden, begun: Checkpoint) -> None:
        self.now = begun
        self._settings, self._golden = settings, golden
        self._updater = Updater(settings, golden, clock_ms=lambda: 0)

    def update(self, judgements: Sequence[Judgement]) -> Lineage:
        """Make an update of judgements and return its record."""
        sorter = Sorter(
            self.now.state,
            golden_queries=self._golden.queries,
            held_out_share=self._settings.trainer.held_out_share,
        )
        scale = self.now.champion.description.scale
        began = self.now.state.offsets.get(PARTITION, 0)
        for offset, each in enumerate(judgements, start=began):
            sorter.at(PARTITION, offset)
            sorter.add(read(msgspec.json.encode(each), scale))
        self.now = self._updater.update(self.now, sorter.taken, accept=False, say=lambda _: None)
        assert self.now.lineage is not None
        return self.now.lineage


def line(phase: str, made: Lineage) -> str:
    """Return an update's outcome and what the guard of disagreement saw."""
    rise, p_value = (made.figures.get(f"watch.disagreement_{name}") for name in ("rise", "p_value"))
    seen = "too few to compare" if rise is None else f"disagreement {rise:+.3f} nats (p {p_value:.2g})"
    return f"update {made.update:2d}  {phase:<8} {made.outcome:<7} {seen}; {made.why}"


@click.command(help=__doc__)
@click.option("--answers", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--share", default=0.2, show_default=True, type=click.FloatRange(0, 1), help="Flipped.")
@click.option("--clean", default=6, show_default=True, type=click.IntRange(1), help="Updates.")
@click.option("--poisoned", default=18, show_default=True, type=click.IntRange(1), help="Updates.")
@click.option("--after", default=4, show_default=True, type=click.IntRange(0), help="Updates.")
@click.option("--size", default=200, show_default=True, type=click.IntRange(50), help="Judgements an update.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0))
def main(*, answers: Path, share: float, clean: int, poisoned: int, after: int, size: int, seed: int) -> None:
    """Make the updates and print them."""
    announce("ops.bench.poisoned_judgements")
    settings = settings_of_demo({"TRAINER__SEED": seed})
    with locked(cache_folder() / "lock", say=click.echo, what="the first students"):
        first = cold_start.prepare(settings, cache_folder(), say=click.echo)
    student = saved.load(first.student)
    scale = student.description.scale
    golden = read_golden(first.golden, scale)
    unseen = [msgspec.json.decode(each, type=LabelledPair) for each in first.unseen.read_bytes().splitlines()]
    classes = {query_text(text): name for text, name in evaluation_shop().queries}
    pool = [
        msgspec.structs.replace(each.judgement, traffic_class=classes.get(each.judgement.query, ""))
        for each in student_answers.read(answers, "shop")[0]
        if each.judgement
    ]
    random.Random(f"order {seed}").shuffle(pool)
    phases = [CLEAN] * clean + [POISONED] * poisoned + [AFTER] * after
    if len(pool) < size * len(phases):
        raise click.ClickException(f"expected {size * len(phases)} judgements, got {len(pool)}")
    batches = [pool[place * size : (place + 1) * size] for place in range(len(phases))]
    click.echo(
        f"{size} judgements an update, {len(golden.queries)} golden and "
        f"{len({pair.query for pair in unseen})} unseen queries, seed {seed}"
    )
    rng = random.Random(f"poison {seed}")
    labels = read_labelled(first.learned, scale)
    state = states.begun(labels, scale, golden=golden.queries, share=settings.trainer.held_out_share)
    begun = Checkpoint(state, None, student, student)
    opening = Follower(settings, golden, begun)
    for batch in batches[:clean]:
        click.echo(line(CLEAN, opening.update(batch)))
    before = scored_by(opening.now.champion, unseen, bf16=True)
    weights = bootstrap.resampled_weights(np.random.default_rng(7), queries=before.queries)
    metric = METRICS["auc"]
    click.echo(f"champion before the poison: unseen AUC {told(bootstrap.estimate(metric, before, weights))}")
    ends: dict[str, ScoredPairs] = {}
    for name, dose in (("poisoned", share), ("twin", 0.0)):
        follower = Follower(settings, golden, opening.now)
        counts: dict[str, Counter[str]] = {POISONED: Counter(), AFTER: Counter()}
        for phase, batch in zip(phases[clean:], batches[clean:], strict=True):
            given = poison(batch, scale, share=dose if phase == POISONED else 0.0, rng=rng)
            made = follower.update(given)
            counts[phase][made.outcome] += 1
            click.echo(f"{name:<9} {line(phase if dose else CLEAN, made)}")
            if phase == POISONED and sum(counts[POISONED].values()) == poisoned:
                now = scored_by(follower.now.champion, unseen, bf16=True)
                change = bootstrap.difference(metric, now, before, weights)
                click.echo(
                    f"{name:<9} champion after these: unseen AUC {told(change, sign='+')} beside before"
                )
        ends[name] = scored_by(follower.now.champion, unseen, bf16=True)
        end = bootstrap.estimate(metric, ends[name], weights)
        told_counts = "; ".join(f"{phase}: {dict(count)}" for phase, count in counts.items())
        click.echo(f"{name:<9} {told_counts}; at the end unseen AUC {told(end)}")
    change = bootstrap.difference(metric, ends["poisoned"], ends["twin"], weights)
    click.echo(f"poisoned - twin at the end: unseen AUC {told(change, sign='+')}")


if __name__ == "__main__":
    main()
