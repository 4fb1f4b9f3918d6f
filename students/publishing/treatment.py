"""Which versions score the treatment arm one after another, read from the steps. Pure functions.

A kind's champion scores the control arm. A challenger scores the treatment: it was *promoted* to it (or published
straight into it), and is *rolled back* if it did harm; then the one before it scores the treatment again, and without
one the champion does.
"""

from __future__ import annotations

from collections.abc import Sequence

from streams.records import StudentStep
from students.publishing.ledger import route_of


def rolled_back(steps: Sequence[StudentStep], kind: str) -> frozenset[int]:
    """Return the versions that were taken off the treatment arm; none of them comes back by itself."""
    return frozenset(
        step.version
        for step in steps
        # A champion's roll back names the version that is champion again.
        if step.kind == kind and step.step == "rolled_back" and step.version != step.champion
    )


def line_of(steps: Sequence[StudentStep], kind: str) -> list[int]:
    """Return the versions that scored the treatment one after another, the latest last.

    Left out are those that were rolled back or retired, and what has become champion.
    """
    of_kind = [step for step in steps if step.kind == kind]
    gone = rolled_back(steps, kind) | {step.version for step in of_kind if step.step == "retired"}
    line: dict[int, None] = {}
    for step in of_kind:
        if step.challenger:
            line.pop(step.challenger, None)
            line[step.challenger] = None
    return [version for version in line if version not in gone and version != route_of(steps, kind).champion]


def before(steps: Sequence[StudentStep], kind: str) -> int:
    """Return the version that the treatment goes back to if the present one is rolled back, 0 for the champion's.

    Where the champion scores the treatment there is nothing to go back to.
    """
    challenger = route_of(steps, kind).challenger
    if not challenger:
        return 0
    earlier = [version for version in line_of(steps, kind) if version != challenger]
    return earlier[-1] if earlier else 0


def waiting(steps: Sequence[StudentStep], kind: str) -> int:
    """Return the version that was published last, if it has not scored any arm yet and still may; else 0."""
    of_kind = [step for step in steps if step.kind == kind]
    published = [step.version for step in of_kind if step.step == "published"]
    if not published:
        return 0
    last = published[-1]
    tried = any(last in (step.champion, step.challenger) for step in of_kind)
    retired = any(step.step == "retired" and step.version == last for step in of_kind)
    return 0 if tried or retired else last


def since_ms(steps: Sequence[StudentStep], kind: str) -> tuple[int, int]:
    """Return since when (epoch milliseconds) the present challenger scores the treatment, and since when any does;
    0 for both without a challenger."""
    version_ms = line_ms = challenger = 0
    for step in steps:
        if step.kind != kind or step.challenger == challenger:
            continue
        line_ms = step.at_ms if not challenger else line_ms
        challenger, version_ms = step.challenger, step.at_ms
    return (version_ms, line_ms) if challenger else (0, 0)
