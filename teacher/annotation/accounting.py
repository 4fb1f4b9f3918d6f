"""The account of an annotation: what was kept and what was not, why, how well everybody agreed, and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import msgspec
from sklearn.metrics import cohen_kappa_score

from streams.records import Judgement
from teacher.annotation.rule import Outcome
from teacher.annotation.settlement import Answers, Settlement
from teacher.parsing import Refusal

PERSON = "person"


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """US dollars per million tokens."""

    usd_per_million_prompt_tokens: float = 0.0
    usd_per_million_completion_tokens: float = 0.0

    def cost_usd(self, *, prompt_tokens: int, completion_tokens: int) -> float:
        """Return what so many tokens cost; tokens from the prefix cache are paid like others."""
        prompt = prompt_tokens * self.usd_per_million_prompt_tokens
        return (prompt + completion_tokens * self.usd_per_million_completion_tokens) / 1e6


class Work(msgspec.Struct, kw_only=True):
    """What an annotator did over all runs on the ledger. `answer_s` sums the answers' latencies, so requests
    side by side count side by side; `mean_self_agreement` is over the pairs on which it has a grade."""

    judgements: int = 0
    refusals: Counter[str] = msgspec.field(default_factory=Counter)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    unlocated: int = 0
    answer_s: float = 0.0
    cost_usd: float = 0.0
    mean_self_agreement: float | None = None

    def add(self, answer: Judgement | Refusal, prices: Prices) -> None:
        """Count one answer."""
        if isinstance(answer, Refusal):
            self.refusals[answer.reason] += 1
        else:
            self.judgements += 1
            self.unlocated += answer.unlocated
        self.prompt_tokens += answer.prompt_tokens
        self.cached_tokens += answer.cached_tokens
        self.completion_tokens += answer.completion_tokens
        self.answer_s += answer.latency_ms / 1000
        self.cost_usd += prices.cost_usd(
            prompt_tokens=answer.prompt_tokens, completion_tokens=answer.completion_tokens
        )


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """How two graders agree on the pairs that both graded: share of equal grades, Cohen's kappa, and kappa with
    quadratic weights on the grades' ranks. None where there is no pair, or where both always say one same grade."""

    one: str
    other: str
    pairs: int
    equal: float | None
    kappa: float | None
    weighted_kappa: float | None


class VerdictAgreement(msgspec.Struct, kw_only=True):
    """How two annotators' best chains agree in a subtask: pairs in which both name it, in which the verdicts are
    then equal, and in which only one of them names it."""

    both: int = 0
    equal: int = 0
    one_only: int = 0


class Account(msgspec.Struct, kw_only=True):
    """The whole account. Counts are pairs unless named otherwise: those kept, dropped, in review and unanswered add
    up to `pairs`, and `duplicates` are further lines of the input. `kept_lines_dropped` counts lines of kept chains
    that quoted what stands in neither text; `verdicts` is by `one / other` annotator, then by subtask."""

    pairs: int
    duplicates: int
    unanswered: int
    person_graded: int
    kept: dict[str, int]
    dropped: dict[str, int]
    review: dict[str, int]
    arbitrated: int
    kept_grades: dict[str, int]
    kept_without_chain: int
    kept_lines_dropped: int
    agreement: list[Agreement]
    verdicts: dict[str, dict[str, VerdictAgreement]]
    work: dict[str, Work]
    cost_usd: float


def agreement(one: str, other: str, grades: Sequence[tuple[str, str]], labels: Sequence[str]) -> Agreement:
    """Return how two graders agree. `grades` holds both labels of each pair that both graded."""
    if not grades:
        return Agreement(one=one, other=other, pairs=0, equal=None, kappa=None, weighted_kappa=None)
    ones, others = zip(*grades, strict=True)
    kappa = weighted = None
    if len({*ones, *others}) > 1:
        kappa = float(cohen_kappa_score(ones, others, labels=list(labels)))
        weighted = float(cohen_kappa_score(ones, others, labels=list(labels), weights="quadratic"))
    equal = sum(a == b for a, b in grades) / len(grades)
    return Agreement(
        one=one, other=other, pairs=len(grades), equal=equal, kappa=kappa, weighted_kappa=weighted
    )


class Accountant:
    """Takes settlements and answers one by one and draws up the account."""

    def __init__(
        self, *, annotators: Sequence[str], labels: Sequence[str], prices: Mapping[str, Prices]
    ) -> None:
        self._annotators = tuple(annotators)
        self._labels = tuple(labels)
        self._prices = prices
        self._outcomes: dict[Outcome, Counter[str]] = {outcome: Counter() for outcome in Outcome}
        self._grades: list[dict[str, str]] = []
        self._self_agreement: dict[str, list[float]] = {name: [] for name in prices}
        self._work = {name: Work() for name in prices}
        self._verdicts: dict[str, dict[str, VerdictAgreement]] = {}
        self._kept_grades: Counter[str] = Counter()
        self._unanswered = self._arbitrated = self._without_chain = self._lines_dropped = 0

    def answers(self, answers: Mapping[str, Answers]) -> None:
        """Count what was asked and answered on a pair."""
        for name, some in answers.items():
            for answer in some:
                self._work[name].add(answer, self._prices[name])

    def unanswered(self) -> None:
        """Count a pair on which answers are missing."""
        self._unanswered += 1

    def settled(self, settlement: Settlement) -> None:
        """Count what became of a pair."""
        asked = [*settlement.opinions, *([settlement.arbiter] if settlement.arbiter else [])]
        grades = {each.annotator: each.grade for each in asked if each.grade is not None}
        if settlement.pair.person_grade is not None:
            grades[PERSON] = settlement.pair.person_grade
        self._grades.append(grades)
        for each in asked:
            if each.grade is not None:
                self._self_agreement[each.annotator].append(each.self_agreement)
        self._arbitrated += settlement.arbiter is not None
        self._outcomes[settlement.decision.outcome][settlement.decision.reason] += 1
        if settlement.example is not None:
            self._kept_grades[settlement.example.grade] += 1
            self._without_chain += not settlement.example.chain
            self._lines_dropped += settlement.dropped_lines
        for one, other in combinations(self._annotators, 2):
            if one in settlement.views and other in settlement.views:
                self._compare(f"{one} / {other}", settlement.views[one], settlement.views[other])

    def _compare(self, between: str, one: Judgement, other: Judgement) -> None:
        table = self._verdicts.setdefault(between, {})
        ones = {verdict.subtask: verdict.verdict for verdict in one.verdicts}
        others = {verdict.subtask: verdict.verdict for verdict in other.verdicts}
        for subtask in sorted({*ones, *others}):
            row = table.setdefault(subtask, VerdictAgreement())
            if subtask in ones and subtask in others:
                row.both += 1
                row.equal += ones[subtask] == others[subtask]
            else:
                row.one_only += 1

    def account(self, *, duplicates: int) -> Account:
        """Return the account of all that was taken in; `duplicates` are lines of the input that were repeats."""
        for name, work in self._work.items():
            shares = self._self_agreement[name]
            work.mean_self_agreement = sum(shares) / len(shares) if shares else None
        return Account(
            pairs=len(self._grades) + self._unanswered,
            duplicates=duplicates,
            unanswered=self._unanswered,
            person_graded=sum(PERSON in grades for grades in self._grades),
            kept=dict(self._outcomes[Outcome.KEPT]),
            dropped=dict(self._outcomes[Outcome.DROPPED]),
            review=dict(self._outcomes[Outcome.REVIEW]),
            arbitrated=self._arbitrated,
            kept_grades={label: self._kept_grades[label] for label in self._labels},
            kept_without_chain=self._without_chain,
            kept_lines_dropped=self._lines_dropped,
            agreement=list(self._agreements()),
            verdicts=self._verdicts,
            work=self._work,
            cost_usd=sum(work.cost_usd for work in self._work.values()),
        )

    def _agreements(self) -> Iterable[Agreement]:
        for one, other in combinations([*self._prices, PERSON], 2):
            both = [(grades[one], grades[other]) for grades in self._grades if {one, other} <= grades.keys()]
            yield agreement(one, other, both, self._labels)
