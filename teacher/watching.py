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
| `drift_psi`, `drift_p_value` | how far the mix is from an earlier one: see `grade_drift` |
| `prompt_tokens_p50`, `_p95`, `completion_tokens_p50`, `_p95` | tokens a judgement |
| `tokens_a_judgement` | prompt and completion tokens of all answers, refused ones too, a judgement |
| `cached_prompt_share` | share of prompt tokens that the prefix cache held |
| `latency_s_p50`, `_p95` | seconds from request to answer, as a client waits among others |
| `unlocated_a_chain` | quoted words that stand in neither text, a judgement |
| `refused_share` | refusals of all answers |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec
import numpy as np
from scipy.stats import chi2_contingency

from ops.evaluation import calibration
from ops.evaluation.bootstrap import Estimate, estimate, estimates, resampled_weights
from ops.evaluation.metrics import METRICS, UndefinedError, accuracy_of, ece
from ops.evaluation.pairs import ScoredPairs, scored_pairs
from streams.item_text import content_hash, query_text
from streams.records import Judgement
from teacher.examples import Example
from teacher.parsing import Refusal
from teacher.policy import Policy

#: Population stability index: below the first a mix is stable, from the second on it has moved (Siddiqi 2006).
PSI_MOVING = 0.1
PSI_MOVED = 0.25
#: The index alone is noise on few judgements: the G-test has to agree.
DRIFT_ALPHA = 0.01
#: Judgements that each of the two periods needs.
MIN_JUDGEMENTS = 50


class ReportError(ValueError):
    """Judgements or people's grades cannot be reported on together. The message says what was expected."""


class Drift(StrEnum):
    """What the grade mix has done since an earlier period; UNKNOWN with too few judgements to tell."""

    STABLE = "stable"
    MOVING = "moving"
    MOVED = "moved"
    UNKNOWN = "unknown"


class GradeDrift(msgspec.Struct, frozen=True, kw_only=True):
    """How two grade mixes differ. `psi` >= 0; `p_value` is None where both hold one and the same grade only."""

    state: Drift
    psi: float | None
    p_value: float | None
    why: str


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


def grade_drift(earlier: Mapping[str, int], later: Mapping[str, int]) -> GradeDrift:
    """Compare two grade mixes, counts by label of the same labels.

    The population stability index is the sum of (q - p) ln(q / p) over the labels' shares, half a judgement added
    to each count so that an empty one stays finite; the p-value is the G-test's of one common mix. The mix has
    moved at PSI >= 0.25, is moving from 0.1, both only with p < 0.01. Pairs of one query are alike, so p is
    somewhat too small; and a change in what is sampled moves the mix as a change of the teacher does.
    """
    if set(earlier) != set(later):
        raise ValueError(f"expected counts of the same grades, got {sorted(earlier)} and {sorted(later)}")
    table = np.array([[counts[label] for label in earlier] for counts in (earlier, later)], dtype=np.float64)
    few = int(table.sum(axis=1).min())
    if few < MIN_JUDGEMENTS:
        why = f"{few} judgements in one period, {MIN_JUDGEMENTS} are needed"
        return GradeDrift(state=Drift.UNKNOWN, psi=None, p_value=None, why=why)
    shares = (table + 0.5) / (table + 0.5).sum(axis=1, keepdims=True)
    psi = float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
    used = table[:, table.sum(axis=0) > 0]
    if used.shape[1] < 2:
        return GradeDrift(state=Drift.STABLE, psi=psi, p_value=None, why="both periods hold one grade only")
    p_value = float(chi2_contingency(used, correction=False, lambda_="log-likelihood").pvalue)
    state = Drift.STABLE
    if p_value < DRIFT_ALPHA and psi >= PSI_MOVING:
        state = Drift.MOVED if psi >= PSI_MOVED else Drift.MOVING
    why = (
        f"PSI {psi:.3f} (moving from {PSI_MOVING}, moved from {PSI_MOVED}), p {p_value:.2g} of {DRIFT_ALPHA}"
    )
    return GradeDrift(state=state, psi=psi, p_value=p_value, why=why)


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
