import math
from collections.abc import Sequence

import numpy as np
import pytest

from ops.evaluation.drift import Drift
from streams.item_text import content_hash
from streams.records import Judgement
from teacher import policy as policies
from teacher.examples import Example
from teacher.parsing import Refusal, RefusalReason
from teacher.watching import (
    ReportError,
    TeacherReport,
    against_people,
    costs,
    grade_mix,
    report,
)

POLICY = policies.default()
#: A score that each grade gets.
SCORES = {"E": 0.9, "S": 0.4, "C": 0.2, "I": 0.1}


def judgement(
    number: int, grade: str, *, query: str = "", teacher_id: str = "t@1", text: str = "mug"
) -> Judgement:
    return Judgement(
        query=query or f"query {number // 4}",
        item_id=str(number),
        item_text=text,
        content_hash=content_hash(text),
        teacher_id=teacher_id,
        prompt_hash="abc",
        grades={label: float(label == grade) for label in SCORES},
        grade=grade,
        relevance_score=SCORES[grade],
        verdicts=[],
        unlocated=number % 2,
        chain_of_thought=f"grade: {grade}",
        latency_ms=1000.0 * (number + 1),
        prompt_tokens=200,
        cached_tokens=150,
        completion_tokens=40 + number,
        judged_ms=1_700_000_000_000 + number,
    )


def judgements(grades: str) -> list[Judgement]:
    return [judgement(number, grade) for number, grade in enumerate(grades)]


def graded(judged: Sequence[Judgement], grades: Sequence[str]) -> list[Example]:
    return [
        Example(
            query=each.query, item_id=each.item_id, item_text=each.item_text, grade=grade, source="people"
        )
        for each, grade in zip(judged, grades, strict=True)
    ]


def refusal(reason: RefusalReason, *, prompt_tokens: int = 0) -> Refusal:
    return Refusal(reason=reason, detail="", prompt_tokens=prompt_tokens)


def reported(
    judged: Sequence[Judgement],
    *,
    refusals: Sequence[Refusal] = (),
    people: Sequence[Example] = (),
    earlier: Sequence[Judgement] = (),
) -> TeacherReport:
    return report(
        judged, refusals, policy=POLICY, rng=np.random.default_rng(1), people=people, earlier=earlier
    )


def values(made: TeacherReport) -> dict[str, float | None]:
    return {name: figure.value for name, figure in made.figures.items()}


def test_costs_by_hand() -> None:
    found = {
        name: figure.value
        for name, figure in costs(
            judgements("EESI"), [refusal(RefusalReason.BAD_LINE, prompt_tokens=200)]
        ).items()
    }
    assert found["latency_s_p50"] == 2.5
    assert found["latency_s_p95"] == pytest.approx(3.85)
    assert found["prompt_tokens_p50"] == 200
    assert found["completion_tokens_p50"] == 41.5
    # The refused answer's tokens are paid for the four judgements as well.
    assert found["tokens_a_judgement"] == (5 * 200 + 40 + 41 + 42 + 43) / 4
    assert found["cached_prompt_share"] == 600 / 1000
    assert found["unlocated_a_chain"] == 0.5


def test_report_counts_grades_refusals_and_time() -> None:
    made = reported(
        judgements("EESI"),
        refusals=[
            refusal(RefusalReason.NO_GRADE),
            refusal(RefusalReason.EMPTY),
            refusal(RefusalReason.EMPTY),
        ],
    )
    assert (made.teacher_id, made.prompt_hash, made.judgements) == ("t@1", "abc", 4)
    assert made.refused == {"empty": 2, "no_grade": 1}
    assert made.grades == {"E": 2, "S": 1, "C": 0, "I": 1}
    assert made.until_ms - made.from_ms == 3
    assert made.drift is Drift.UNKNOWN
    found = values(made)
    assert found["refused_share"] == 3 / 7
    assert (found["mix_E"], found["mix_C"]) == (0.5, 0)
    assert "kappa" not in found
    assert "drift_psi" not in found


def test_agreement_with_people_by_hand() -> None:
    judged = judgements("ESIE" * 12)
    made = reported(judged, people=graded(judged, "ESIS" * 12))
    found = values(made)
    assert (found["people_pairs"], found["people_queries"]) == (48, 12)
    assert found["accuracy"] == 0.75
    assert (found["accuracy_S"], found["accuracy_C"]) == (0.5, None)
    assert made.figures["accuracy_C"].why == "no pair has grade C"
    # Exact ones score 0.9; of the others one in three does too.
    assert found["auc"] == pytest.approx(1 - 0.5 / 3)
    assert found["ece"] == pytest.approx(((0.9 - 1 + 0.9 - 0.1) + (0.4 - 0.1) + 0.1) / 4)
    assert found["ece_calibrated"] == pytest.approx(0, abs=1e-9)
    # One step off in a quarter of the pairs, against the average of all combinations of the two mixes.
    teacher, people = ({0: 0.5, 1: 0.25, 3: 0.25}, {0: 0.25, 1: 0.5, 3: 0.25})
    by_chance = sum(p * q * (a - b) ** 2 for a, p in teacher.items() for b, q in people.items())
    assert found["kappa"] == pytest.approx(1 - 0.25 / by_chance)
    assert made.figures["auc"].lower is not None


def test_people_who_graded_another_text_or_pair_say_nothing() -> None:
    judged = judgements("ESIE")
    people = graded(judged, "ESIE")
    people[0] = Example(query="query 0", item_id="0", item_text="cup", grade="E", source="people")
    people[1] = Example(query="other", item_id="1", item_text="mug", grade="S", source="people")
    pairs = against_people(judged, people, policy=POLICY)
    assert len(pairs) == 2
    assert pairs.grade.tolist() == [3, 0]


def test_no_common_pair_gives_reasons_instead_of_figures() -> None:
    judged = judgements("ESIE")
    made = reported(judged[:2], people=graded(judged[2:], "IE"))
    assert values(made)["people_pairs"] == 0
    for name in ("auc", "kappa", "ece", "ece_calibrated"):
        assert made.figures[name].value is None
        assert made.figures[name].why


def test_a_teacher_that_refused_all_has_a_report() -> None:
    made = reported([], refusals=[refusal(RefusalReason.UNAVAILABLE)])
    assert (made.judgements, made.teacher_id, made.from_ms) == (0, "", 0)
    assert values(made)["refused_share"] == 1
    assert made.figures["latency_s_p50"].why == "no judgements"


def test_two_teachers_are_not_one() -> None:
    judged = [*judgements("E"), judgement(1, "E", teacher_id="t@2")]
    with pytest.raises(
        ReportError, match=r"expected judgements of one teacher and one prompt, got 2: t@1 \(abc\)"
    ):
        reported(judged)


def test_grades_of_another_scale_are_refused() -> None:
    judged = judgements("ES")
    people = graded(judged, ["Yes", "Yes"])
    with pytest.raises(ReportError, match="expected people's grades among E, S, C, I, got 'Yes'"):
        reported(judged, people=people)
    with pytest.raises(ReportError, match="expected judgements' grades among Yes, No, got 'E', 'S'"):
        grade_mix(judged, ["Yes", "No"])


def test_drift_stands_in_the_report() -> None:
    made = reported(judgements("E" * 60 + "I" * 40), earlier=judgements("E" * 90 + "I" * 10))
    assert made.drift is Drift.MOVED
    by_hand = (60.5 - 90.5) / 102 * math.log(60.5 / 90.5) + (40.5 - 10.5) / 102 * math.log(40.5 / 10.5)
    assert values(made)["drift_psi"] == pytest.approx(by_hand)
    assert "PSI" in made.drift_why
