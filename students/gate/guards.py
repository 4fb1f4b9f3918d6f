"""What stops publishing: judgements that champions or people contradict, a mix of grades that jumps, refused records.

A judgement's disagreement is 1 - the probability that the champions give its grade; where a person graded the pair
it is 1 if the grades differ, else 0. Its rise may be poison. The latest judgements, the *window*, from which no
champion has learned yet, are compared with held-out ones before, from which none ever does, under the same champions:
neither a better champion nor what it remembers moves the comparison. People's grades and the mix are compared with
the judgements just before, the *reference*. The mix also moves when other pairs are sampled, as they are after each
new champion: so it counts as moved only if it has moved beside what the champions expect of the window's pairs, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from ops.evaluation.drift import Drift, grade_drift
from ops.settings import Gate

Floats = npt.NDArray[np.float64]
#: Judgements and queries that each side of a comparison needs.
LEAST_JUDGEMENTS = 50
LEAST_QUERIES = 10
#: A champion that never gives a grade expects it now and then.
EXPECTED_AT_LEAST = 0.01


class Watched(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A judgement as the guards see it. `disagreement` in [0, 1]; `by_people` tells whom it is with.

    `expected` is the champions' distribution of the pair's grade when it was judged, empty if it is not known.
    """

    query: str
    grade: str
    disagreement: float
    by_people: bool
    expected: tuple[float, ...] = ()


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """A guard that fired: `guard` is disagreement, people, grade_mix or refused; `why` is a line for people."""

    guard: str
    why: str


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """What the guards found: alarms, none if all is well, and figures by name."""

    alarms: tuple[Alarm, ...]
    figures: dict[str, float]


def watch(
    earlier: Sequence[Watched],
    new: Sequence[Watched],
    *,
    held_out: Sequence[Watched],
    refused: int,
    labels: Sequence[str],
    gate: Gate,
) -> Watch:
    """Look at `new` judgements after `earlier` ones that were let through.

    `held_out` are earlier ones beside the present champions, `refused` of the new records could not be read. Few new
    ones are watched together with the latest before. Too few to tell raise no alarm.
    """
    beside = max(0, gate.window - len(new))
    split = max(0, len(earlier) - beside)
    reference, window = earlier[max(0, split - gate.reference) : split], [*earlier[split:], *new]
    alarms: list[Alarm] = []
    figures: dict[str, float] = {}
    by_people = [[each for each in side if each.by_people] for side in (reference, window)]
    by_champions = [held_out, [each for each in window if not each.by_people]]
    for guard, whom, sides in (
        ("disagreement", "the champions", by_champions),
        ("people", "people", by_people),
    ):
        risen = rise(*sides)
        if risen is None:
            continue
        amount, p_value = risen
        figures |= {f"watch.{guard}_rise": amount, f"watch.{guard}_p_value": p_value}
        if amount >= gate.disagreement_rise and p_value < gate.guard_alpha:
            alarms.append(
                Alarm(
                    guard=guard,
                    why=f"the teacher's disagreement with {whom} rose by {amount:.3f} (p {p_value:.2g}) over "
                    f"{len(sides[1])} judgements, {gate.disagreement_rise:g} stops publishing",
                )
            )
    mixes = [mix_of(side, labels) for side in (reference, window)]
    drift = grade_drift(*mixes)
    if drift.psi is not None:
        figures["watch.psi"] = drift.psi
    if drift.state is Drift.MOVED and (meant := expected_mix(reference, window, labels)) is not None:
        drift = grade_drift(meant, mixes[1])
        figures["watch.psi_unexpected"] = drift.psi or 0.0
    if drift.state is Drift.MOVED:
        alarms.append(Alarm(guard="grade_mix", why=f"the mix of grades has moved: {drift.why}"))
    records = refused + len(new)
    if records >= LEAST_JUDGEMENTS:
        figures["watch.refused_share"] = refused / records
        if refused / records > gate.most_refused:
            alarms.append(
                Alarm(
                    guard="refused",
                    why=f"{refused} of {records} records could not be learned from, at most {gate.most_refused:.0%}",
                )
            )
    return Watch(alarms=tuple(alarms), figures=figures)


def mix_of(side: Sequence[Watched], labels: Sequence[str]) -> dict[str, int]:
    """Return how many judgements have each grade."""
    counts = Counter(each.grade for each in side)
    return {label: counts[label] for label in labels}


def expected_mix(
    reference: Sequence[Watched], window: Sequence[Watched], labels: Sequence[str]
) -> dict[str, int] | None:
    """Return the reference's counts, each times the champions' mean expectation of that grade in the window over that
    in the reference, scaled to as many judgements; None where an expectation is missing."""
    known = [
        [each.expected for each in side if len(each.expected) == len(labels)] for side in (reference, window)
    ]
    if any(len(found) < max(1, len(side)) for found, side in zip(known, (reference, window), strict=True)):
        return None
    before, now = (np.mean(np.array(found, dtype=np.float64), axis=0) + EXPECTED_AT_LEAST for found in known)
    counts = np.array(list(mix_of(reference, labels).values()), dtype=np.float64)
    wanted = counts * now / before
    wanted *= counts.sum() / max(wanted.sum(), 1.0)
    return dict(zip(labels, np.rint(wanted).astype(int).tolist(), strict=True))


def rise(earlier: Sequence[Watched], later: Sequence[Watched]) -> tuple[float, float] | None:
    """Return how much greater the mean disagreement is later, and the one-sided p-value that it is not; None where
    there are too few judgements or queries.

    Judgements of one query are alike, so the variances are those of ratios of sums over queries (linearised; Cochran
    1977, section 6.3), and the difference is taken as normal.
    """
    sides = [_mean_and_variance(side) for side in (earlier, later)]
    if sides[0] is None or sides[1] is None:
        return None
    (before, before_variance), (now, now_variance) = sides[0], sides[1]
    spread = float(np.sqrt(before_variance + now_variance))
    amount = now - before
    if spread == 0:
        return amount, 0.0 if amount > 0 else 1.0
    return amount, float(norm.sf(amount / spread))


def _mean_and_variance(side: Sequence[Watched]) -> tuple[float, float] | None:
    numbers = {query: number for number, query in enumerate(dict.fromkeys(each.query for each in side))}
    queries = len(numbers)
    if len(side) < LEAST_JUDGEMENTS or queries < LEAST_QUERIES:
        return None
    places = np.array([numbers[each.query] for each in side])
    values = np.array([each.disagreement for each in side])
    sizes: Floats = np.bincount(places, minlength=queries).astype(np.float64)
    mean = float(values.mean())
    residuals = np.bincount(places, weights=values, minlength=queries) - mean * sizes
    variance = queries / (queries - 1) * float((residuals**2).sum()) / len(side) ** 2
    return mean, variance
