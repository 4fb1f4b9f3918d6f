"""Judgements and opinions for the tests of annotation."""

from __future__ import annotations

from collections.abc import Sequence

from streams.item_text import content_hash
from streams.records import Judgement, SubtaskVerdict
from teacher.annotation.opinions import Opinion
from teacher.annotation.pairs import PairToAnnotate

LABELS = ("E", "S", "C", "I")
QUERY = "red steel kettle"
TEXT = "Norvik kettle, crimson\nbrand: Norvik"


def pair(number: int = 0, *, person_grade: str | None = None) -> PairToAnnotate:
    return PairToAnnotate(
        query=QUERY, item_id=f"i{number}", item_text=TEXT, source="shop", person_grade=person_grade
    )


def verdict(
    subtask: str = "category",
    *,
    said: str = "match",
    query_words: str = "kettle",
    item_words: str = "kettle",
    located: bool = True,
) -> SubtaskVerdict:
    query_at, item_at = QUERY.find(query_words), TEXT.find(item_words)
    return SubtaskVerdict(
        subtask=subtask,
        verdict=said,
        query_words=query_words,
        item_words=item_words,
        query_span=(query_at, query_at + len(query_words)) if query_words and located else None,
        item_span=(item_at, item_at + len(item_words)) if item_words and located else None,
    )


def judgement(
    grade: str = "E",
    *,
    sure: float = 0.7,
    verdicts: Sequence[SubtaskVerdict] = (verdict(),),
    unlocated: int = 0,
    teacher_id: str = "one-model",
    completion_tokens: int = 20,
    chain: str = "kettle | category | kettle | match\ngrade: E",
) -> Judgement:
    rest = (1 - sure) / (len(LABELS) - 1)
    return Judgement(
        query=QUERY,
        item_id="i0",
        item_text=TEXT,
        content_hash=content_hash(TEXT),
        teacher_id=teacher_id,
        prompt_hash="0" * 12,
        grades={label: sure if label == grade else rest for label in LABELS},
        grade=grade,
        relevance_score=0.5,
        verdicts=list(verdicts),
        unlocated=unlocated,
        chain_of_thought=chain,
        latency_ms=250.0,
        prompt_tokens=400,
        cached_tokens=300,
        completion_tokens=completion_tokens,
        judged_ms=1,
    )


def opinion(annotator: str, grade: str | None, self_agreement: float = 1.0) -> Opinion:
    grades = {} if grade is None else {label: float(label == grade) for label in LABELS}
    return Opinion(
        annotator=annotator,
        grades=grades,
        grade=grade,
        self_agreement=self_agreement if grade else 0.0,
        samples=3,
    )
