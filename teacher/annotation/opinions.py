"""What an annotator thinks of a pair, from several samples of its answer (self-consistency).

After Wang et al. 2022 (arXiv 2203.11171): the chains differ, the grade is what counts. Here each sample brings a
distribution over the grades, and the opinion is their mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from streams.records import Judgement
from teacher.examples import ChainLine
from teacher.policy import Verdict


class Opinion(msgspec.Struct, frozen=True, kw_only=True):
    """One annotator's view of one pair.

    `grades` maps each label to its mean probability over the samples that gave a judgement (they sum to 1; empty
    if none did), `grade` is the likeliest label, None without a judgement. `self_agreement` in [0, 1] is the share
    of all `samples` whose own grade that is; a refused sample agrees with nothing.
    """

    annotator: str
    grades: dict[str, float]
    grade: str | None
    self_agreement: float
    samples: int


def opinion(
    annotator: str, judgements: Sequence[Judgement], *, samples: int, labels: Sequence[str]
) -> Opinion:
    """Return the opinion from the judgements among `samples` answers. Of equally likely labels the earlier one
    in `labels` is taken. Raises ValueError for more judgements than samples."""
    if not len(judgements) <= samples:
        raise ValueError(f"expected at most {samples} judgements, got {len(judgements)}")
    if not judgements:
        return Opinion(annotator=annotator, grades={}, grade=None, self_agreement=0.0, samples=samples)
    count = len(judgements)
    grades = {label: sum(each.grades[label] for each in judgements) / count for label in labels}
    grade = max(labels, key=grades.__getitem__)
    votes = sum(each.grade == grade for each in judgements)
    return Opinion(
        annotator=annotator, grades=grades, grade=grade, self_agreement=votes / samples, samples=samples
    )


def located(judgement: Judgement) -> int:
    """Return how many quoted words of the chain stand in query or item text."""
    spans = [span for verdict in judgement.verdicts for span in (verdict.query_span, verdict.item_span)]
    return sum(span is not None for span in spans)


def best_chain(judgements: Iterable[Judgement], grade: str) -> Judgement | None:
    """Return, of the judgements with this grade, the one with the most located evidence, then the least
    unlocated, then the fewest tokens; None if none has the grade."""
    fitting = [each for each in judgements if each.grade == grade]
    return max(
        fitting, key=lambda each: (located(each), -each.unlocated, -each.completion_tokens), default=None
    )


def chain_lines(judgement: Judgement) -> tuple[ChainLine, ...]:
    """Return the lines that may be taught: those whose words all stand in query and item text."""
    return tuple(
        ChainLine(
            subtask=verdict.subtask,
            query_words=verdict.query_words,
            item_words=verdict.item_words,
            verdict=Verdict(verdict.verdict),
        )
        for verdict in judgement.verdicts
        if verdict.query_span is not None and (verdict.item_span is not None or not verdict.item_words)
    )
