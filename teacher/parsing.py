"""An answer read back, strictly: any text whatever gives a chain of thought with its grade, or a refusal that
names its reason. The form is that of `teacher.prompt`."""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from streams.records import SubtaskVerdict
from teacher.evidence import locate
from teacher.policy import Policy, Verdict
from teacher.prompt import MAX_LINES, MAX_WORDS_CHARS, NOTHING

_LINE = re.compile(r"([^|\n]+) \| ([^|\n]+) \| ([^|\n]+) \| ([^|\n]*)")
_DETAIL_CHARS = 80


class RefusalReason(StrEnum):
    """Why there is no judgement. The last five are not the answer's fault."""

    EMPTY = "empty"
    TOO_LONG = "too_long"
    TRUNCATED = "truncated"
    NO_GRADE = "no_grade"
    UNKNOWN_GRADE = "unknown_grade"
    BAD_LINE = "bad_line"
    WORDS_TOO_LONG = "words_too_long"
    UNKNOWN_SUBTASK = "unknown_subtask"
    TOO_MANY_LINES = "too_many_lines"
    BAD_VERDICT = "bad_verdict"
    TEXT_AFTER_GRADE = "text_after_grade"
    NO_PROBABILITIES = "no_probabilities"
    UNFIT_TEXT = "unfit_text"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"
    BAD_RESPONSE = "bad_response"


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """No judgement, and why. `detail` may quote the answer, which strangers' text shaped: show it escaped.

    The rest is what the answer cost, where there was one.
    """

    reason: RefusalReason
    detail: str
    answer: str = ""
    latency_ms: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain of thought: the verdicts in order, the label written, and how many quotations stand in no text."""

    verdicts: list[SubtaskVerdict]
    grade: str
    unlocated: int


def _refuse(reason: RefusalReason, detail: str) -> Refusal:
    return Refusal(
        reason=reason, detail=detail if len(detail) <= _DETAIL_CHARS else detail[:_DETAIL_CHARS] + "…"
    )


def max_answer_chars(policy: Policy) -> int:
    """Return the length that no answer in the asked form exceeds."""
    name = max(len(subtask.name) for subtask in policy.subtasks)
    line = 2 * MAX_WORDS_CHARS + name + len(" |  |  | mismatch\n")
    return MAX_LINES * line + len("grade: ") + 12


def parse(answer: str, *, policy: Policy, query: str, item_text: str) -> Chain | Refusal:
    """Read an answer in the chain's form; never raises. Blanks and empty lines around the whole answer are let pass.

    Quoted words that are located are given as they stand in the text, others as the teacher wrote them, with
    span None. Query and item text are the cleaned ones that were asked about.
    """
    if not answer.strip():
        return _refuse(RefusalReason.EMPTY, "expected a chain and a grade, got nothing")
    answer = answer.strip(" \n")
    if len(answer) > max_answer_chars(policy):
        detail = f"expected at most {max_answer_chars(policy)} characters, got {len(answer)}"
        return _refuse(RefusalReason.TOO_LONG, detail)
    names = {subtask.name for subtask in policy.subtasks}
    verdicts: list[SubtaskVerdict] = []
    unlocated = 0
    lines = answer.split("\n")
    for number, line in enumerate(lines, start=1):
        if line.startswith("grade:") and "|" not in line:
            return _end(line, lines[number:], policy, verdicts, unlocated)
        match = _LINE.fullmatch(line)
        if match is None:
            return _refuse(RefusalReason.BAD_LINE, f"line {number}: {line}")
        query_words, name, item_words, verdict = match.groups()
        if name not in names:
            return _refuse(RefusalReason.UNKNOWN_SUBTASK, f"line {number}: {name}")
        if number > MAX_LINES:
            return _refuse(
                RefusalReason.TOO_MANY_LINES, f"expected at most {MAX_LINES} lines before the grade"
            )
        if verdict not in list(Verdict):
            return _refuse(RefusalReason.BAD_VERDICT, f"line {number}: {verdict}")
        query_words, item_words = _words(query_words), _words(item_words)
        if max(len(query_words), len(item_words)) > MAX_WORDS_CHARS:
            return _refuse(
                RefusalReason.WORDS_TOO_LONG, f"line {number}: {max(query_words, item_words, key=len)}"
            )
        query_span, item_span = locate(query_words, query), locate(item_words, item_text)
        unlocated += (bool(query_words) and query_span is None) + (bool(item_words) and item_span is None)
        verdicts.append(
            SubtaskVerdict(
                subtask=name,
                verdict=verdict,
                query_words=query[slice(*query_span)] if query_span else query_words,
                item_words=item_text[slice(*item_span)] if item_span else item_words,
                query_span=query_span,
                item_span=item_span,
            )
        )
    return _refuse(RefusalReason.NO_GRADE, f"the last line is: {lines[-1]}")


def _words(column: str) -> str:
    words = column.strip()
    return "" if words == NOTHING else words


def _end(
    line: str, rest: list[str], policy: Policy, verdicts: list[SubtaskVerdict], unlocated: int
) -> Chain | Refusal:
    label = line.removeprefix("grade:").strip(" ")
    if label not in policy.labels:
        return _refuse(
            RefusalReason.UNKNOWN_GRADE, f"expected one of {', '.join(policy.labels)}, got {label}"
        )
    if rest:
        return _refuse(RefusalReason.TEXT_AFTER_GRADE, "\n".join(rest))
    return Chain(verdicts=verdicts, grade=label, unlocated=unlocated)


def parse_grade(answer: str, *, policy: Policy) -> Chain | Refusal:
    """Read an answer that is the label alone; never raises. The chain is without verdicts."""
    label = answer.strip()
    if not label:
        return _refuse(RefusalReason.EMPTY, "expected a grade, got nothing")
    if label not in policy.labels:
        return _refuse(
            RefusalReason.UNKNOWN_GRADE, f"expected one of {', '.join(policy.labels)}, got {label}"
        )
    return Chain(verdicts=[], grade=label, unlocated=0)
