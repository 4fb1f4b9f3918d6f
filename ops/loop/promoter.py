"""Does what `ops.loop.promotion` says: first students published and pinned, promotions, roll backs, announcements."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ops.experiments.guardrails import Guardrail
from ops.loop import promotion
from ops.loop.promotion import Move
from ops.serving.connection import Control
from ops.settings import Settings
from streams.records import StudentStep
from students.publishing.announcing import announce
from students.publishing.ledger import KINDS, Ledger, route_of
from students.publishing.publisher import Publisher
from students.publishing.repository import root_of
from students.version_folder import read_manifest, student_version

logger = logging.getLogger(__name__)


class FirstStudentError(RuntimeError):
    """A first student cannot be served. The message says why and what to do."""


#: Judges the guardrails over the time since then (epoch milliseconds).
Judge = Callable[[int], Sequence[Guardrail]]


class Promoter:
    """One promoter per repository. `judge` may raise; then nothing changes and the next look asks again."""

    def __init__(self, settings: Settings, judge: Judge) -> None:
        self._settings, self._judge = settings, judge
        self._ledger = Ledger(root_of(settings))

    def first(self, folders: Sequence[Path]) -> None:
        """Publish exported versions as champions and pin them, where their kind has none yet.

        Raises FirstStudentError for one that was refused, VersionError, PublishError, TritonError,
        NotRunningError without a Triton, LedgerError.
        """
        for folder in folders:
            kind = read_manifest(folder).kind
            of_kind = [step for step in self._ledger.steps() if step.kind == kind]
            if any(step.step == "pinned" for step in of_kind):
                # It may have been let go of by a person since.
                continue
            if refused := [step for step in of_kind if step.step == "refused"]:
                raise FirstStudentError(
                    f"the first {kind} student is not let through, and its number is used once:"
                    f" {refused[0].decision}; begin anew in another run directory"
                )
            with self._publisher() as publisher:
                if not of_kind:
                    publisher.publish(folder, decision="the first student, from people's labels")
                publisher.pin(kind, pinned=True, decision="control of the experiment")

    def guard(self) -> Move | None:
        """Ask the guardrails about what is tried out, roll it back if they are breached, and return what was done.

        Raises what `judge` does, PublishError, TritonError, NotRunningError, LedgerError.
        """
        trial = promotion.trial_of(self._ledger.steps())
        if trial is None:
            return None
        of_version = self._judge(trial.version_ms)
        of_line = of_version if trial.line_ms == trial.version_ms else self._judge(trial.line_ms)
        return self._make(promotion.harm(trial, of_version=of_version, of_line=of_line))

    def promote(self) -> Move | None:
        """Promote what waits for the treatment arm, and return what was done. Raises as `guard`, without `judge`."""
        return self._make(promotion.due(self._ledger.steps()))

    def announce(self) -> None:
        """Send the steps that were not sent yet. Raises NotRunningError, BrokerSilentError, KafkaError."""
        announce(self._settings, self._ledger)

    def detail(self) -> str:
        """Return what scores which arm, in a line for people."""
        return told(self._ledger.steps())

    def _make(self, move: Move | None) -> Move | None:
        if move is None:
            return None
        with self._publisher() as publisher:
            if move.what == "promote":
                publisher.treat(move.version, decision=move.why)
            else:
                to_champion = move.what == "roll_back_all"
                publisher.take_off(move.kind, to_champion=to_champion, decision=move.why)
        logger.info("%s %s: %s", move.what, student_version(move.kind, move.version), move.why)
        return move

    @contextlib.contextmanager
    def _publisher(self) -> Iterator[Publisher]:
        with contextlib.closing(Control(self._settings)) as control:
            yield Publisher(self._settings, control)


def told(steps: Sequence[StudentStep]) -> str:
    """Return which version of each kind scores control and treatment.

    >>> told([])
    'no student is served yet'
    """
    parts = []
    for kind in KINDS:
        route = route_of(steps, kind)
        if route.champion:
            against = f", treatment {route.challenger}" if route.challenger else ", treatment the same"
            parts.append(f"{kind}: control {route.champion}{against}")
    return "; ".join(parts) or "no student is served yet"
