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
from students.evaluation.graded import point_figures, scored, scored_by
from students.evaluation.scoring import score_pairs
from students.examples import TrainingExample, fingerprint
from students.gate.decision import Decision, decide
from students.gate.guards import watch
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
    """Makes updates; keeps the champion's scores of the golden set between them."""

    def __init__(self, settings: Settings, golden: Golden, *, clock_ms: Callable[[], int]) -> None:
        self._settings, self._golden, self._clock_ms = settings, golden, clock_ms
        self._champions_golden: tuple[int, ScoredPairs] | None = None

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
        champions = (
            [before.champion] if state.previous == state.champion else [before.champion, before.previous]
        )
        examples = [each.example for each in sorted(taken.judged, key=lambda each: each.identity)]
        say(f"update {state.update + 1}: {len(examples)} judgements")
        seen = watched(examples, champions, people=self._golden.people)
        labels = before.champion.description.scale.labels
        before_these = [each.example for each in state.held_out[-gate.reference :]]
        found = watch(
            state.reference,
            seen,
            held_out=watched(before_these, champions, people=self._golden.people),
            refused=taken.refused,
            labels=labels,
            gate=gate,
        )
        outcome: Outcome = "kept"
        why = "; ".join(alarm.why for alarm in found.alarms) or "nothing new to learn from"
        learned = None
        if not found.alarms:
            try:
                learned = self._learned(before, state, taken, say)
            except TrainingError as error:
                why = f"the training failed: {error}"
        if found.alarms:
            outcome = "halted"
        elif learned is not None:
            outcome, why = ("passed" if learned.decision.passed else "kept"), learned.decision.why
        after = states.after(state, taken, outcome, watched=seen, trainer=trainer, gate=gate)
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
        tail = [
            each.example
            for each in (*state.held_out, *taken.held_out)[-settings.gate.held_out_pairs :]
            if each.traffic_class == TAIL
        ]
        ours = scored_by(challenger, self._golden.pairs)
        decision = decide(
            golden=(ours, self._golden_of_champion(champion, state.champion)),
            tail=(_scored(challenger, tail), _scored(champion, tail)),
            pair_ms=pair_ms(challenger, champion, [(each.query, each.item_text) for each in lesson]),
            gate=settings.gate,
            seed=settings.trainer.seed * 1_000_003 + update,
        )
        if decision.passed:
            self._champions_golden = (update, ours)
        own = {f"golden.{name}": value for name, value in point_figures(ours).items()}
        decision = msgspec.structs.replace(decision, figures=decision.figures | own)
        return _Learned(challenger, new, again, fingerprint(lesson), decision)

    def _golden_of_champion(self, champion: LoadedStudent, update: int) -> ScoredPairs:
        if self._champions_golden is None or self._champions_golden[0] != update:
            self._champions_golden = (update, scored_by(champion, self._golden.pairs))
        return self._champions_golden[1]


def _scored(student: LoadedStudent, examples: Sequence[TrainingExample]) -> ScoredPairs:
    scale = student.description.scale
    return scored(
        [_Tail(each) for each in examples],
        score_pairs(student, [(each.query, each.item_text) for each in examples]),
        scale,
    )


class _Tail:
    """A judgement as a graded pair."""

    traffic_class = TAIL

    def __init__(self, example: TrainingExample) -> None:
        self.query, self.item_text, self.grade = example.query, example.item_text, example.grade


def _mean_age_s(times_ms: Sequence[int], now_ms: int) -> float | None:
    known = [now_ms - each for each in times_ms if each > 0]
    return round(fmean(known) / 1000, 3) if known else None
