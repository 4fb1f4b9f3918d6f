"""One update from what was taken to the checkpoint that follows: guards, learning, gate, record."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import msgspec

from ops.evaluation.pairs import ScoredPairs
from ops.settings import Settings
from students.evaluation.graded import GradedPair, point_figures, scored
from students.examples import TrainingExample, fingerprint
from students.gate.decision import Decision, decide
from students.gate.guards import watch
from students.gate.known_scores import KnownScores
from students.gate.latency import pair_ms
from students.gate.watching import watched
from students.incremental import state as states
from students.incremental.checkpoint import Checkpoint
from students.incremental.golden import Golden
from students.incremental.judged import TAIL, Judged
from students.incremental.learning import learn, update_settings, weights_hash
from students.incremental.lineage import Lineage
from students.incremental.state import Outcome, State, Taken
from students.saved import LoadedStudent
from students.training.loop import TrainingError


@dataclass(frozen=True, slots=True)
class _Learned:
    """A challenger with what it learned and what the gate said."""

    student: LoadedStudent
    new: list[Judged]
    again: list[Judged]
    data: str
    decision: Decision


class Updater:
    """Makes updates; keeps the champions' scores between them."""

    def __init__(self, settings: Settings, golden: Golden, *, clock_ms: Callable[[], int]) -> None:
        self._settings, self._golden, self._clock_ms = settings, golden, clock_ms
        self._known: dict[int, KnownScores] = {}

    def update(
        self, before: Checkpoint, taken: Taken, *, accept: bool, say: Callable[[str], None]
    ) -> Checkpoint:
        """Return the checkpoint that follows; `accept` takes quarantined judgements in first.

        `say` hears of progress; what it raises ends the update with nothing changed.
        """
        began_s = time.monotonic()
        settings, trainer, gate = self._settings, self._settings.trainer, self._settings.gate
        state = before.state
        if accept:
            state = states.accepted(state, held_out_share=trainer.held_out_share)
        known = self._champions(before, state)
        champions = list(known.values())
        examples = [each.example for each in sorted(taken.judged, key=lambda each: each.identity)]
        say(f"update {state.update + 1}: {len(examples)} judgements")
        seen = watched(examples, champions, people=self._golden.people)
        labels = before.champion.description.scale.labels
        before_these = [each.example for each in state.held_out]
        found = watch(
            state.reference,
            seen,
            held_out=watched(before_these, champions, people=self._golden.people),
            suspicion=state.suspicion,
            refused=taken.refused,
            labels=labels,
            gate=gate,
        )
        outcome: Outcome = "kept"
        why = "; ".join(alarm.why for alarm in found.alarms) or found.doubt or "nothing new to learn from"
        learned = None
        if not found.alarms and not found.doubt:
            try:
                learned = self._learned(before, state, taken, say)
            except TrainingError as error:
                why = f"the training failed: {error}"
        if found.alarms:
            outcome = "halted"
        elif found.doubt:
            outcome = "doubted"
        elif learned is not None:
            outcome, why = ("passed" if learned.decision.passed else "kept"), learned.decision.why
        after = states.after(
            state, taken, outcome, suspicion=found.suspicion, watched=seen, trainer=trainer, gate=gate
        )
        now_ms = self._clock_ms()
        lineage = Lineage(
            update=after.update,
            kind=before.champion.description.paradigm,
            parent=state.champion,
            previous=state.previous,
            accepted=accept,
            ranges=taken.ranges,
            offsets=after.offsets,
            used=tuple(sorted(each.identity for each in taken.new)),
            held_out=tuple(sorted(each.identity for each in taken.held_out)),
            golden_judgements=len(taken.golden),
            duplicates=taken.duplicates,
            refused=taken.refused,
            fresh=len(learned.new) if learned else 0,
            replayed=len(learned.again) if learned else 0,
            seed=trainer.seed,
            settings={
                "students": settings.students.model_dump(mode="json"),
                "trainer": trainer.model_dump(mode="json"),
                "gate": gate.model_dump(mode="json"),
            },
            data=learned.data if learned else "",
            golden=self._golden.fingerprint,
            start=weights_hash(before.champion),
            weights=weights_hash(learned.student) if learned else "",
            outcome=outcome,
            why=why,
            alarms=found.alarms,
            figures=found.figures | (learned.decision.figures if learned else {}),
            seconds=round(time.monotonic() - began_s, 3),
            judged_to_trained_s=_mean_age_s([each.judged_ms for each in taken.new], now_ms),
            sampled_to_trained_s=_mean_age_s([each.sampled_ms for each in taken.new], now_ms),
            at_ms=now_ms,
        )
        if outcome == "passed" and learned is not None:
            return Checkpoint(after, lineage, learned.student, before.champion)
        return Checkpoint(after, lineage, before.champion, before.previous)

    def _learned(
        self, before: Checkpoint, state: State, taken: Taken, say: Callable[[str], None]
    ) -> _Learned | None:
        settings, update = self._settings, state.update + 1
        new, again = states.lesson(state, taken, settings.trainer)
        if not new:
            return None
        champion = before.champion
        challenger = LoadedStudent(champion.description, copy.deepcopy(champion.model), champion.tokeniser)
        lesson = [each.example for each in (*new, *again)]
        learn(
            challenger,
            lesson,
            settings=update_settings(settings.students, settings.trainer, update=update),
            averaging=settings.trainer.averaging,
            say=say,
        )
        say(f"update {update}: at the gate")
        _, held = states.cleared(state, taken, held_out_share=settings.trainer.held_out_share)
        recent = (*state.held_out, *held)[-settings.gate.held_out_pairs :]
        tail: list[GradedPair] = [pair for pair in self._golden.pairs if pair.traffic_class == TAIL]
        tail += [_Tail(each.example) for each in recent if each.traffic_class == TAIL]
        ours, theirs = self._asked(challenger), self._champions(before, state)[state.champion]
        golden = _scored(ours, self._golden.pairs)
        decision = decide(
            golden=(golden, _scored(theirs, self._golden.pairs)),
            tail=(_scored(ours, tail), _scored(theirs, tail)),
            pair_ms=pair_ms(challenger, champion, [(each.query, each.item_text) for each in lesson]),
            gate=settings.gate,
            seed=settings.trainer.seed * 1_000_003 + update,
        )
        if decision.passed:
            self._known[update] = ours
        own = {f"golden.{name}": value for name, value in point_figures(golden).items()}
        decision = msgspec.structs.replace(decision, figures=decision.figures | own)
        return _Learned(challenger, new, again, fingerprint(lesson), decision)

    def _champions(self, before: Checkpoint, state: State) -> dict[int, KnownScores]:
        """Return what is known of the champion, and of the one before it if that is another, by their updates."""
        students = {state.champion: before.champion, state.previous: before.previous}
        self._known = {
            update: self._known[update] if update in self._known else self._asked(student)
            for update, student in students.items()
        }
        return self._known

    def _asked(self, student: LoadedStudent) -> KnownScores:
        # As it is trained: half the time of a gate, and both sides are rounded alike.
        return KnownScores(student, bf16=self._settings.students.bf16)


def _scored(known: KnownScores, pairs: Sequence[GradedPair]) -> ScoredPairs:
    found = known.of([(each.query, each.item_text) for each in pairs])
    return scored(pairs, found, known.student.description.scale)


class _Tail:
    """A judgement as a graded pair."""

    traffic_class = TAIL

    def __init__(self, example: TrainingExample) -> None:
        self.query, self.item_text, self.grade = example.query, example.item_text, example.grade


def _mean_age_s(times_ms: Sequence[int], now_ms: int) -> float | None:
    known = [now_ms - each for each in times_ms if each > 0]
    return round(fmean(known) / 1000, 3) if known else None
