"""What became of a pair: from all answers on it to a kept example, a row for people, or the reason it fell out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from streams.records import Judgement
from teacher.annotation.opinions import Opinion, best_chain, chain_lines, opinion
from teacher.annotation.pairs import PairToAnnotate
from teacher.annotation.review import Review, Row, View
from teacher.annotation.rule import Decision, Outcome, Reason, Rule, decide, needs_arbiter
from teacher.examples import Example
from teacher.parsing import Refusal

Answers = Sequence[Judgement | Refusal]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Who is asked, how often, and what counts. `labels` are the policy's grades, best first."""

    annotators: tuple[str, ...]
    arbiter: str | None
    samples: int
    rule: Rule
    labels: tuple[str, ...]

    @property
    def everyone(self) -> tuple[str, ...]:
        """Return the names of annotators and arbiter."""
        return self.annotators if self.arbiter is None else (*self.annotators, self.arbiter)


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """A pair's end. `views` holds each one's best judgement for its grade, by name; `dropped_lines` counts the
    lines of the kept chain that quoted what stands in neither text."""

    pair: PairToAnnotate
    opinions: tuple[Opinion, ...]
    arbiter: Opinion | None
    decision: Decision
    views: dict[str, Judgement]
    example: Example | None = None
    dropped_lines: int = 0

    def row(self) -> Row:
        """Return the pair as people see it in the review file."""
        views = [
            View(
                annotator=each.annotator,
                grade=each.grade or "",
                self_agreement=each.self_agreement,
                chain=self.views[each.annotator].chain_of_thought if each.annotator in self.views else "",
            )
            for each in (*self.opinions, *([self.arbiter] if self.arbiter else []))
        ]
        return Row(
            pair=self.pair.key,
            query=self.pair.query,
            item_id=self.pair.item_id,
            item_text=self.pair.item_text,
            reason=self.decision.reason,
            person_grade=self.pair.person_grade or "",
            views=tuple(views),
        )


def _judgements(answers: Answers) -> list[Judgement]:
    return [answer for answer in answers if isinstance(answer, Judgement)]


def _opinion(name: str, answers: Mapping[str, Answers], plan: Plan) -> Opinion:
    return opinion(name, _judgements(answers[name]), samples=plan.samples, labels=plan.labels)


def is_open(answers: Mapping[str, Answers], plan: Plan) -> bool:
    """Tell whether the annotators' answers, `plan.samples` each, leave the grade to the arbiter."""
    return needs_arbiter([_opinion(name, answers, plan) for name in plan.annotators], plan.rule)


def settle(
    pair: PairToAnnotate, answers: Mapping[str, Answers], plan: Plan, *, review: Review | None = None
) -> Settlement:
    """Return what becomes of a pair. The arbiter's answers count if they are there; a person's review goes before
    all else. A pair whose kept grade no judgement has goes to people, a reviewed one is dropped."""
    opinions = tuple(_opinion(name, answers, plan) for name in plan.annotators)
    arbiter = None
    if plan.arbiter is not None and answers[plan.arbiter] and needs_arbiter(opinions, plan.rule):
        arbiter = _opinion(plan.arbiter, answers, plan)
    asked = [*opinions, *([arbiter] if arbiter else [])]
    judgements = {each.annotator: _judgements(answers[each.annotator]) for each in asked}
    decision = decide(opinions, plan.rule, arbiter=arbiter, person_grade=pair.person_grade)
    if review is not None:
        decision = Decision(outcome=Outcome.KEPT, reason=Reason.REVIEWED, grade=review.grade)
    chosen = None
    if decision.grade is not None:
        chosen = best_chain([each for some in judgements.values() for each in some], decision.grade)
        if chosen is None:
            outcome = Outcome.DROPPED if review is not None else Outcome.REVIEW
            decision = Decision(outcome=outcome, reason=Reason.NO_CHAIN)
    views = {
        each.annotator: best
        for each in asked
        if each.grade is not None and (best := best_chain(judgements[each.annotator], each.grade))
    }
    settled = Settlement(pair=pair, opinions=opinions, arbiter=arbiter, decision=decision, views=views)
    if chosen is None or decision.grade is None:
        return settled
    lines = chain_lines(chosen)
    example = Example(
        query=pair.query,
        item_id=pair.item_id,
        item_text=pair.item_text,
        grade=decision.grade,
        source=pair.source,
        writer=_writer(chosen, views.values(), decision),
        chain=lines,
    )
    return msgspec.structs.replace(settled, example=example, dropped_lines=len(chosen.verdicts) - len(lines))


def _writer(chosen: Judgement, others: Iterable[Judgement], decision: Decision) -> str:
    """Return who stands for an example: the chain's author, who else gave this grade, a person who decided it."""
    agreeing = [each.teacher_id for each in others if each.grade == decision.grade]
    person = ["person"] if decision.reason in (Reason.REVIEWED, Reason.PERSON_GRADE) else []
    return "+".join(dict.fromkeys([chosen.teacher_id, *agreeing, *person]))
