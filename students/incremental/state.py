"""What the trainer knows between two updates, and how an update changes it: pure, so that the log makes it again."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

import msgspec

from ops.settings import Gate, Trainer
from students.examples import LabelledPair
from students.gate.guards import Watched
from students.grades import GradeScale
from students.incremental import replay
from students.incremental.judged import Judged, graded, is_held_out
from students.incremental.replay import Stored

#: Identities that are remembered, newest last; a duplicate of an older judgement would be learned from again.
MOST_SEEN = 500_000
MOST_QUARANTINED = 10_000

#: passed: the challenger is the champion now. kept: the champion stays. doubted: nothing was learned yet, the
#: judgements wait for the next look. halted: a guard fired, they and those that waited are set aside.
Outcome = Literal["passed", "kept", "doubted", "halted"]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Everything but weights.

    `update` counts updates, `saved` checkpoints. `offsets` is the next offset of each "topic/partition". `unlearned`
    came since the champion and is learned from with every challenger until one passes; `learned` is what the
    champion learned that its parent had not. `doubted` wait for the guards' next look, `suspicion` is what they have
    seen so far (`students.gate.suspicion`). `champion` and `previous` are the updates that made them, 0 for the
    first student.
    """

    saved: int = 0
    update: int = 0
    offsets: dict[str, int] = {}
    seen: tuple[str, ...] = ()
    stored: tuple[Stored, ...] = ()
    unlearned: tuple[Judged, ...] = ()
    learned: tuple[Judged, ...] = ()
    held_out: tuple[Judged, ...] = ()
    doubted: tuple[Judged, ...] = ()
    quarantine: tuple[Judged, ...] = ()
    suspicion: float = 0.0
    reference: tuple[Watched, ...] = ()
    champion: int = 0
    previous: int = 0


class Taken(msgspec.Struct, kw_only=True):
    """What an update takes: `new` to learn from, `held_out` for the gate, `golden` ones of golden queries, which only
    the guards see. `begun` and `offsets` are first and next offsets by "topic/partition"."""

    new: list[Judged] = []
    held_out: list[Judged] = []
    golden: list[Judged] = []
    duplicates: int = 0
    refused: int = 0
    begun: dict[str, int] = {}
    offsets: dict[str, int] = {}

    @property
    def judged(self) -> list[Judged]:
        """Return all judgements, each once."""
        return [*self.new, *self.held_out, *self.golden]

    @property
    def ranges(self) -> dict[str, tuple[int, int]]:
        """Return the half-open interval of offsets by "topic/partition"."""
        return {name: (self.begun[name], self.offsets[name]) for name in sorted(self.offsets)}


class Sorter:
    """Sorts judgements as they come, in any order, into what the next update takes."""

    def __init__(self, state: State, *, golden_queries: frozenset[str], held_out_share: float) -> None:
        self.taken = Taken()
        self._seen = set(state.seen)
        self._golden, self._share = golden_queries, held_out_share

    def at(self, partition: str, offset: int) -> None:
        """Note that the record at an offset is read."""
        self.taken.begun.setdefault(partition, offset)
        self.taken.offsets[partition] = offset + 1

    def add(self, judged: Judged) -> None:
        """Take a judgement in; one that was seen is counted and left."""
        taken = self.taken
        if judged.identity in self._seen:
            taken.duplicates += 1
            return
        self._seen.add(judged.identity)
        if judged.example.query in self._golden:
            taken.golden.append(judged)
        elif is_held_out(judged.example.query, self._share):
            taken.held_out.append(judged)
        else:
            taken.new.append(judged)

    def next(self) -> None:
        """Begin with the next update; what was taken stays seen."""
        self.taken = Taken()


def begun(
    labels: Iterable[LabelledPair], scale: GradeScale, *, golden: Collection[str], share: float
) -> State:
    """Return the state before the first update, with people's grades to replay.

    Left out are queries of the golden set, and those that the held-out `share` keeps for the gate. Raises
    ExampleError.
    """
    stored = [
        Stored(judged=graded(pair, scale), update=0)
        for pair in labels
        if pair.query not in golden and not is_held_out(pair.query, share)
    ]
    return State(stored=tuple(sorted(stored, key=lambda each: each.judged.identity)))


def fresh(state: State, new: Iterable[Judged], trainer: Trainer) -> list[Judged]:
    """Return what no champion has learned yet, update by update, the oldest left out beyond `trainer.most_new`."""
    return [*state.unlearned, *_by_identity(new)][-trainer.most_new :]


def cleared(state: State, taken: Taken, *, held_out_share: float) -> tuple[list[Judged], list[Judged]]:
    """Return what the guards let through: to learn from and to hold out, with those that waited for them."""
    new, held = _split(state.doubted, held_out_share)
    return _by_identity([*new, *taken.new]), _by_identity([*held, *taken.held_out])


def lesson(state: State, taken: Taken, trainer: Trainer) -> tuple[list[Judged], list[Judged]]:
    """Return what the next challenger learns: what is fresh, and what is replayed beside it."""
    new = _by_identity(fresh(state, cleared(state, taken, held_out_share=trainer.held_out_share)[0], trainer))
    again = replay.replayed(
        state.stored,
        count=round(trainer.replay_share * len(new)),
        update=state.update + 1,
        seed=trainer.seed,
        without={each.identity for each in new},
    )
    return new, again


def after(
    state: State,
    taken: Taken,
    outcome: Outcome,
    *,
    suspicion: float = 0.0,
    watched: Iterable[Watched],
    trainer: Trainer,
    gate: Gate,
) -> State:
    """Return the state after an update; `suspicion` and `watched` are what the guards found in it."""
    update = state.update + 1
    common = msgspec.structs.replace(
        state,
        update=update,
        offsets=state.offsets | taken.offsets,
        seen=(*state.seen, *sorted(each.identity for each in taken.judged))[-MOST_SEEN:],
        suspicion=suspicion,
    )
    through, held = cleared(state, taken, held_out_share=trainer.held_out_share)
    if outcome == "doubted":
        return msgspec.structs.replace(common, doubted=(*through, *held))
    if outcome == "halted":
        aside = (*state.quarantine, *through, *held)[-MOST_QUARANTINED:]
        return msgspec.structs.replace(common, doubted=(), quarantine=aside)
    new = fresh(state, through, trainer)
    stored = replay.kept(
        [*state.stored, *(Stored(judged=each, update=update) for each in through)],
        capacity=trainer.replay_pairs,
        updates=update,
        seed=trainer.seed,
    )
    passed = outcome == "passed"
    return msgspec.structs.replace(
        common,
        stored=tuple(stored),
        unlearned=() if passed else tuple(new),
        learned=tuple(new) if passed else state.learned,
        doubted=(),
        held_out=(*state.held_out, *held)[-gate.held_out_pairs :],
        reference=(*state.reference, *watched)[-gate.window - gate.reference :],
        champion=update if passed else state.champion,
        previous=state.champion if passed else state.previous,
    )


def accepted(state: State, *, held_out_share: float) -> State:
    """Return the state with the quarantined judgements, and those that wait, taken in after all, no suspicion, and
    nothing to compare later people's grades and mixes with."""
    new, held = _split([*state.quarantine, *state.doubted], held_out_share)
    return msgspec.structs.replace(
        state,
        quarantine=(),
        doubted=(),
        suspicion=0.0,
        reference=(),
        unlearned=(*state.unlearned, *_by_identity(new)),
        stored=(*state.stored, *(Stored(judged=each, update=max(1, state.update)) for each in new)),
        held_out=(*state.held_out, *_by_identity(held)),
    )


def taken_back(state: State) -> State:
    """Return the state after serving refused the champion: the one before is it again, and what it has not learned is
    fresh again."""
    return msgspec.structs.replace(
        state,
        champion=state.previous,
        unlearned=(*state.learned, *state.unlearned),
        learned=(),
    )


def _split(judged: Iterable[Judged], held_out_share: float) -> tuple[list[Judged], list[Judged]]:
    """Return judgements to learn from, and those to hold out."""
    new: list[Judged] = []
    held: list[Judged] = []
    for each in judged:
        (held if is_held_out(each.example.query, held_out_share) else new).append(each)
    return new, held


def _by_identity(judged: Iterable[Judged]) -> list[Judged]:
    """Return judgements in an order that does not depend on how partitions were read."""
    return sorted(judged, key=lambda each: each.identity)
