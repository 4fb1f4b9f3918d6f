"""What stops publishing: judgements that champions or people contradict, a mix of grades that jumps, refused records.

A judgement's disagreement with the champions is the evidence of `students.gate.suspicion`; where a person graded the
pair it is 1 if the grades differ, else 0. Its rise may be poison. New judgements, from which no champion has learned
yet, are compared with held-out ones before, from which none ever does, under the same champions: neither a better
champion nor what it remembers moves the comparison. Too little evidence to stop, yet too much to go on, is *doubt*:
the judgements wait for those after them. People's grades and the mix are those of the latest judgements, the
*window*, compared with the ones just before, the *reference*. The mix also moves when other pairs are sampled, as
they are after each new champion: so it counts as moved only if it has moved beside what the champions expect of the
window's pairs, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
from scipy.stats import norm

from ops.evaluation.drift import Drift, grade_drift
from ops.settings import Gate
from students.gate.suspicion import LEAST_JUDGEMENTS, Mean, look, mean_of

#: A champion that never gives a grade expects it now and then.
EXPECTED_AT_LEAST = 0.01


class Watched(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A judgement as the guards see it. `by_people` tells whom `disagreement` is with.

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
    """What the guards found: alarms, none if all is well, figures by name, and the suspicion in nats that the next
    look begins with. `doubt` is a line for people, empty if there is none or an alarm."""

    alarms: tuple[Alarm, ...]
    figures: dict[str, float]
    suspicion: float
    doubt: str


def watch(
    earlier: Sequence[Watched],
    new: Sequence[Watched],
    *,
    held_out: Sequence[Watched],
    suspicion: float,
    refused: int,
    labels: Sequence[str],
    gate: Gate,
) -> Watch:
    """Look at `new` judgements after `earlier` ones that were let through.

    `held_out` are earlier ones beside the present champions, `suspicion` the nats of the look before, `refused` of
    the new records could not be read. For people's grades and the mix few new ones are watched together with the
    latest before. Too few to tell raise no alarm.
    """
    beside = max(0, gate.window - len(new))
    split = max(0, len(earlier) - beside)
    reference, window = earlier[max(0, split - gate.reference) : split], [*earlier[split:], *new]
    alarms: list[Alarm] = []
    figures: dict[str, float] = {}
    doubt = ""
    usual = _mean([each for each in held_out if not each.by_people])
    if usual is not None:
        told = [each.disagreement for each in new if not each.by_people]
        found = look(suspicion, usual, told, allowed=gate.disagreement_rise)
        suspicion = found.nats
        figures |= {
            "watch.disagreement_rise": found.rise,
            "watch.suspicion": found.nats,
            "watch.disagreement_p_value": found.p_value,
        }
        why = (
            f"the teacher's disagreement with the champions: {found.rise:+.3f} nats over {len(told)} judgements, "
            f"p {found.p_value:.2g} in all"
        )
        if found.p_value < gate.guard_alpha:
            alarms.append(Alarm(guard="disagreement", why=why))
        elif found.p_value < gate.guard_doubt:
            doubt = f"{why}; they wait for the next ones"
    by_people = [[each for each in side if each.by_people] for side in (reference, window)]
    risen = rise(*by_people)
    if risen is not None:
        amount, p_value = risen
        figures |= {"watch.people_rise": amount, "watch.people_p_value": p_value}
        if amount >= gate.people_rise and p_value < gate.guard_alpha:
            alarms.append(
                Alarm(
                    guard="people",
                    why=f"the share of the teacher's grades that people contradict rose by {amount:.3f} "
                    f"(p {p_value:.2g}) over {len(by_people[1])} judgements",
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
    return Watch(alarms=tuple(alarms), figures=figures, suspicion=suspicion, doubt="" if alarms else doubt)


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
    """Return how much greater the mean disagreement is later, and the one-sided p-value that it is not, the
    difference taken as normal; None where there are too few judgements or queries."""
    sides = [_mean(side) for side in (earlier, later)]
    if sides[0] is None or sides[1] is None:
        return None
    amount = sides[1].value - sides[0].value
    spread = float(np.sqrt(sides[0].variance + sides[1].variance))
    if spread == 0:
        return amount, 0.0 if amount > 0 else 1.0
    return amount, float(norm.sf(amount / spread))


def _mean(side: Sequence[Watched]) -> Mean | None:
    return mean_of([each.disagreement for each in side], [each.query for each in side])
