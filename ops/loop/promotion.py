"""What to do next about a kind's treatment arm: promote what was published, or roll back what does harm. Pure.

Control is the champion, pinned; treatment the challenger. Guardrails are asked over two stretches of time, both
arms over the same: since the present version scores the treatment, and since any has without a break. Versions may
follow each other faster than one of them can be told from control by itself; together they can. A breach over the
first puts the version before back, one over the second the champion's. A version that was rolled back stays away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ops.experiments.guardrails import Guardrail
from streams.records import StudentStep
from students.publishing.ledger import KINDS, route_of
from students.publishing.treatment import since_ms, waiting
from students.version_folder import Kind, student_version

#: They speak of the model; the split of shoppers is not its doing.
OF_THE_MODEL = ("ctr_change", "latency_p99_ms", "fallback_share")


@dataclass(frozen=True, slots=True)
class Move:
    """`promote` makes `version` the challenger of `kind`; `roll_back` takes it off, for the version before, and
    `roll_back_all` for the champion's. `why` is one line for people."""

    what: Literal["promote", "roll_back", "roll_back_all"]
    kind: Kind
    version: int
    why: str


@dataclass(frozen=True, slots=True)
class Trial:
    """The version that came to the treatment last, and since when (epoch milliseconds) it and its line score it."""

    kind: Kind
    version: int
    version_ms: int
    line_ms: int


def trial_of(steps: Sequence[StudentStep]) -> Trial | None:
    """Return what is tried out now, None if the champions score the treatment too.

    Where both kinds have a challenger it is the later one: what has changed since is its doing.
    """
    trials = [
        Trial(kind, route_of(steps, kind).challenger, *since_ms(steps, kind))
        for kind in KINDS
        if route_of(steps, kind).challenger
    ]
    return max(trials, key=lambda trial: trial.version_ms, default=None)


def harm(trial: Trial, *, of_version: Sequence[Guardrail], of_line: Sequence[Guardrail]) -> Move | None:
    """Return the roll back that the guardrails call for, None if all is well."""
    for what, found, whose in (
        ("roll_back_all", of_line, "since students score the treatment"),
        ("roll_back", of_version, "since it scores the treatment"),
    ):
        breached = [each.why for each in found if each.breached and each.name in OF_THE_MODEL]
        if breached:
            name = student_version(trial.kind, trial.version)
            why = f"{name} is rolled back: {whose}, {'; '.join(breached)}"
            return Move(
                "roll_back_all" if what == "roll_back_all" else "roll_back", trial.kind, trial.version, why
            )
    return None


def due(steps: Sequence[StudentStep]) -> Move | None:
    """Return the promotion of a version that passed the gate and waits, None if none does."""
    for kind in KINDS:
        version = waiting(steps, kind) if route_of(steps, kind).champion else 0
        if version:
            decision = next(
                step.decision for step in steps if step.version == version and step.step == "published"
            )
            return Move("promote", kind, version, decision or "published")
    return None
