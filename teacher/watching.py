"""How a teacher is doing: agreement with people, drift of its grades, what a judgement costs, what it refuses.

Pure functions of judgements and refusals. Figures are flat, name to value, so that they can be stored and plotted
without knowing them:

| name | what it is |
|---|---|
| `people_pairs`, `people_queries` | judged pairs that people graded too, with the same item text |
| `kappa` | quadratic weighted kappa of the teacher's and people's grades, with interval |
| `accuracy`, `accuracy_<label>` | share of equal grades; of the pairs that people gave this label; with interval |
| `auc`, `pr_auc`, `ndcg_at_10`, `spearman` | relevance score against people's grades, with interval |
| `ece` | calibration error of the relevance score as a forecast of people's gain, with interval |
| `ece_calibrated` | the same after isotonic correction, fitted on other queries' people's grades, with interval |
| `mix_<label>` | share of the judgements with this grade |
| `drift_psi`, `drift_p_value` | how far the mix is from an earlier one: see `ops.evaluation.drift` |
| `prompt_tokens_p50`, `_p95`, `completion_tokens_p50`, `_p95` | tokens a judgement |
| `tokens_a_judgement` | prompt and completion tokens of all answers, refused ones too, a judgement |
| `cached_prompt_share` | share of prompt tokens that the prefix cache held |
| `latency_s_p50`, `_p95` | seconds from request to answer, as a client waits among others |
| `unlocated_a_chain` | quoted words that stand in neither text, a judgement |
| `refused_share` | refusals of all answers |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from ops.evaluation import calibration
from ops.evaluation.bootstrap import Estimate, estimate, estimates, resampled_weights
from ops.evaluation.drift import Drift, grade_drift
from ops.evaluation.metrics import METRICS, UndefinedError, accuracy_of, ece
from ops.evaluation.pairs import ScoredPairs, scored_pairs
from streams.item_text import content_hash, query_text
from streams.records import Judgement
from teacher.examples import Example
from teacher.parsing import Refusal
from teacher.policy import Policy


class ReportError(ValueError):
    """Judgements or people's grades cannot be reported on together. The message says what was expected."""


class TeacherReport(msgspec.Struct, frozen=True, kw_only=True):
    """One teacher's figures over one period, as stored and shown.

    `from_ms` and `until_ms` are the first and last judgement's time (epoch milliseconds), 0 without any.
    `refused` counts refusals by reason, `grades` judgements by grade. `figures` are those of the module's table.
    """

    teacher_id: str
    prompt_hash: str
    from_ms: int
    until_ms: int
    judgements: int
    refused: dict[str, int]
    grades: dict[str, int]
    drift: Drift
    drift_why: str
    figures: dict[str, Estimate]


def report(
    judgements: Sequence[Judgement],
    refusals: Sequence[Refusal],
    *,
    policy: Policy,
    rng: np.random.Generator,
    people: Iterable[Example] = (),
    earlier: Sequence[Judgement] = (),
) -> TeacherReport:
    """Return the figures of one teacher; `people` holds people's grades, `earlier` the judgements of the period
    to compare the grade mix with.

    Figures that nothing was given for are left out; those that cannot be told have no value and say why. Raises
    ReportError for judgements of several teachers or prompts, or with grades that the policy does not know.
    """
    makers = {(each.teacher_id, each.prompt_hash) for each in judgements}
    if len(makers) > 1:
        named = ", ".join(sorted(f"{teacher} ({prompt})" for teacher, prompt in makers))
        raise ReportError(f"expected judgements of one teacher and one prompt, got {len(makers)}: {named}")
    teacher_id, prompt_hash = makers.pop() if makers else ("", "")
    mix = grade_mix(judgements, policy.labels)
    figures = costs(judgements, refusals)
    figures |= {
        f"mix_{label}": _known(count / len(judgements) if judgements else None)
        for label, count in mix.items()
    }
    answers = len(judgements) + len(refusals)
    figures["refused_share"] = _known(len(refusals) / answers if answers else None)
    graded = list(people)
    if graded:
        figures |= agreement(against_people(judgements, graded, policy=policy), rng)
    drift = grade_drift(grade_mix(earlier, policy.labels), mix) if earlier else None
    if drift is not None:
        figures["drift_psi"] = _known(drift.psi, drift.why)
        figures["drift_p_value"] = _known(drift.p_value, drift.why)
    times = [each.judged_ms for each in judgements]
    return TeacherReport(
        teacher_id=teacher_id,
        prompt_hash=prompt_hash,
        from_ms=min(times, default=0),
        until_ms=max(times, default=0),
        judgements=len(judgements),
        refused=dict(sorted(Counter(str(each.reason) for each in refusals).items())),
        grades=mix,
        drift=Drift.UNKNOWN if drift is None else drift.state,
        drift_why="nothing earlier to compare with" if drift is None else drift.why,
        figures=figures,
    )


def against_people(
    judgements: Iterable[Judgement], people: Iterable[Example], *, policy: Policy
) -> ScoredPairs:
    """Return the judged pairs that people graded as well: same query, same item, same item text.

    Where several judgements or grades of a pair are given, the last counts. Raises ReportError for a grade that
    the policy does not know.
    """
    known = {
        (query_text(each.query), each.item_id, content_hash(each.item_text)): each.grade for each in people
    }
    judged = {(each.query, each.item_id, each.content_hash): each for each in judgements}
    both = [key for key in judged if key in known]
    _check_grades([known[key] for key in both], policy.labels, "people's grades")
    _check_grades([judged[key].grade for key in both], policy.labels, "judgements' grades")
    return scored_pairs(
        gains=policy.gains,
        queries=[query for query, _, _ in both],
        scores=[judged[key].relevance_score for key in both],
        grades=[known[key] for key in both],
        predicted=[judged[key].grade for key in both],
    )


def agreement(pairs: ScoredPairs, rng: np.random.Generator) -> dict[str, Estimate]:
    """Return how well scores and grades agree with people's: the table's figures from `people_pairs` on."""
    metrics = dict(METRICS) | {f"accuracy_{label}": accuracy_of(label) for label in pairs.labels}
    figures = {
        "people_pairs": _known(float(len(pairs))),
        "people_queries": _known(float(pairs.queries)),
        **estimates(pairs, rng, metrics=metrics),
    }
    try:
        corrected = calibration.cross_fitted(pairs, rng)
    except UndefinedError as error:
        return figures | {"ece_calibrated": Estimate(value=None, why=str(error))}
    weights = resampled_weights(rng, queries=pairs.queries)
    return figures | {"ece_calibrated": estimate(ece, corrected, weights)}


def grade_mix(judgements: Iterable[Judgement], labels: Sequence[str]) -> dict[str, int]:
    """Return how many judgements have each of `labels`. Raises ReportError for a grade that is none of them."""
    counted = Counter(each.grade for each in judgements)
    _check_grades(counted, labels, "judgements' grades")
    return {label: counted[label] for label in labels}


def costs(judgements: Sequence[Judgement], refusals: Sequence[Refusal]) -> dict[str, Estimate]:
    """Return tokens, seconds and unlocated quotes a judgement: the table's figures by these names."""
    columns: dict[str, list[float]] = {
        "prompt_tokens": [each.prompt_tokens for each in judgements],
        "completion_tokens": [each.completion_tokens for each in judgements],
        "latency_s": [each.latency_ms / 1000 for each in judgements],
    }
    figures = {
        f"{name}_p{percent}": _known(float(np.percentile(values, percent)) if values else None)
        for name, values in columns.items()
        for percent in (50, 95)
    }
    answers: list[Judgement | Refusal] = [*judgements, *refusals]
    prompt = sum(each.prompt_tokens for each in answers)
    tokens = prompt + sum(each.completion_tokens for each in answers)
    cached = sum(each.cached_tokens for each in answers)
    unlocated = sum(each.unlocated for each in judgements)
    count = len(judgements)
    return figures | {
        "tokens_a_judgement": _known(tokens / count if count else None),
        "cached_prompt_share": _known(cached / prompt if prompt else None, "no prompt tokens were counted"),
        "unlocated_a_chain": _known(unlocated / count if count else None),
    }


def _check_grades(found: Iterable[str], labels: Sequence[str], what: str) -> None:
    if unknown := sorted(set(found) - set(labels)):
        named = ", ".join(map(repr, unknown[:5]))
        raise ReportError(
            f"expected {what} among {', '.join(labels)}, got {named}: is the policy another one?"
        )


def _known(value: float | None, why: str = "no judgements") -> Estimate:
    return Estimate(value=value) if value is not None else Estimate(value=None, why=why)
