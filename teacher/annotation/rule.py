"""The agreement rule: which grade of a pair is kept, and what becomes of the others. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from teacher.annotation.opinions import Opinion


class WhenPersonDisagrees(StrEnum):
    """What happens if the annotators agree with each other and not with the person."""

    DROP = "drop"
    REVIEW = "review"
    PERSON = "person"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """`self_agreement` in [0, 1]: with less of it an annotator's opinion is not firm and does not count."""

    self_agreement: float
    when_person_disagrees: WhenPersonDisagrees


class Outcome(StrEnum):
    """What becomes of a pair."""

    KEPT = "kept"
    DROPPED = "dropped"
    REVIEW = "review"


class Reason(StrEnum):
    """Why. The first four keep a pair, PERSON_DISAGREES and NO_CHAIN drop it or send it to review, the others
    send it to review."""

    AGREED = "agreed"
    ARBITRATED = "arbitrated"
    PERSON_GRADE = "person_grade"
    REVIEWED = "reviewed"
    PERSON_DISAGREES = "person_disagrees"
    NO_CHAIN = "no_chain"
    DISAGREED = "disagreed"
    UNSURE = "unsure"
    REFUSED = "refused"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The rule's word on a pair; `grade` is the label that is kept, None unless the outcome is KEPT."""

    outcome: Outcome
    reason: Reason
    grade: str | None = None


def needs_arbiter(opinions: Sequence[Opinion], rule: Rule) -> bool:
    """Tell whether the annotators alone do not settle the grade: not all firm, or not all the same."""
    return _unanimous(opinions, rule) is None


def decide(
    opinions: Sequence[Opinion],
    rule: Rule,
    *,
    arbiter: Opinion | None = None,
    person_grade: str | None = None,
) -> Decision:
    """Return what becomes of a pair.

    The annotators' grade is theirs if all are firm and say the same. Otherwise it is what more than half of
    annotators and arbiter firmly say, two of three with two annotators; without such a majority people review.
    A person's grade that differs from it settles the pair as `rule.when_person_disagrees` says.
    """
    grade, reason = _unanimous(opinions, rule), Reason.AGREED
    if grade is None and arbiter is not None:
        grade, reason = _majority([*opinions, arbiter], rule), Reason.ARBITRATED
    if grade is None:
        return Decision(outcome=Outcome.REVIEW, reason=_why_open(opinions, rule))
    if person_grade in (None, grade):
        return Decision(outcome=Outcome.KEPT, reason=reason, grade=grade)
    match rule.when_person_disagrees:
        case WhenPersonDisagrees.DROP:
            return Decision(outcome=Outcome.DROPPED, reason=Reason.PERSON_DISAGREES)
        case WhenPersonDisagrees.REVIEW:
            return Decision(outcome=Outcome.REVIEW, reason=Reason.PERSON_DISAGREES)
        case WhenPersonDisagrees.PERSON:
            return Decision(outcome=Outcome.KEPT, reason=Reason.PERSON_GRADE, grade=person_grade)


def _firm(opinion: Opinion, rule: Rule) -> bool:
    return opinion.grade is not None and opinion.self_agreement >= rule.self_agreement


def _unanimous(opinions: Sequence[Opinion], rule: Rule) -> str | None:
    said = {opinion.grade if _firm(opinion, rule) else None for opinion in opinions}
    return said.pop() if len(said) == 1 else None


def _majority(opinions: Sequence[Opinion], rule: Rule) -> str | None:
    votes = Counter(opinion.grade for opinion in opinions if _firm(opinion, rule))
    return next((grade for grade, count in votes.items() if 2 * count > len(opinions)), None)


def _why_open(opinions: Sequence[Opinion], rule: Rule) -> Reason:
    if any(opinion.grade is None for opinion in opinions):
        return Reason.REFUSED
    if len({opinion.grade for opinion in opinions}) > 1:
        return Reason.DISAGREED
    return Reason.UNSURE
