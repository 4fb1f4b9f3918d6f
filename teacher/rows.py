"""The teacher's rows for ClickHouse: judgements, refusals and the figures of a report, as the sink takes them.

Columns are those of `ops/clickhouse/migrations`; times are epoch milliseconds.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from streams.judgement_identity import identity_of
from streams.records import Judgement
from teacher.policy import Verdict

if TYPE_CHECKING:
    from teacher.watching import TeacherReport

MAX_DETAIL_CHARS = 500
#: The greatest count that fits its column (UInt16).
MAX_COUNT = 65_535


def judgement_row(judgement: Judgement) -> dict[str, Any]:
    """Return the row for `judgements`. The same judgement sent twice is one row, a later one replaces it."""
    verdicts = judgement.verdicts
    quotes = sum(bool(words) for found in verdicts for words in (found.query_words, found.item_words))
    return {
        "query": _storable(judgement.query),
        "item_id": _storable(judgement.item_id),
        "content_hash": judgement.content_hash,
        "teacher_id": _storable(judgement.teacher_id),
        "prompt_hash": judgement.prompt_hash,
        "item_text": _storable(judgement.item_text),
        "grade": judgement.grade,
        "relevance_score": judgement.relevance_score,
        "grades": judgement.grades,
        "verdicts": verdicts_json(judgement),
        "mismatches": sorted({found.subtask for found in verdicts if found.verdict == Verdict.MISMATCH}),
        "quotes": min(quotes, MAX_COUNT),
        "unlocated": min(judgement.unlocated, MAX_COUNT),
        "chain_of_thought": _storable(judgement.chain_of_thought),
        "latency_ms": judgement.latency_ms,
        "prompt_tokens": judgement.prompt_tokens,
        "cached_tokens": judgement.cached_tokens,
        "completion_tokens": judgement.completion_tokens,
        "identity": _identity(judgement),
        "traffic_class": judgement.traffic_class,
        "sampled_at": judgement.sampled_ms or None,
        "event_time": judgement.judged_ms,
        "version": 1,
    }


def verdicts_json(judgement: Judgement) -> str:
    """Return a judgement's verdicts as a JSON array of `streams.records.SubtaskVerdict`."""
    found = [
        msgspec.structs.replace(
            verdict, query_words=_storable(verdict.query_words), item_words=_storable(verdict.item_words)
        )
        for verdict in judgement.verdicts
    ]
    return msgspec.json.encode(found).decode()


def refusal_row(
    *,
    query: str,
    item_id: str,
    content_hash: str,
    teacher_id: str,
    prompt_hash: str,
    reason: str,
    detail: str,
    at_ms: int,
) -> dict[str, Any]:
    """Return the row for `teacher_refusals`: an answer for a pair that was no judgement, and why."""
    return {
        "query": _storable(query),
        "item_id": _storable(item_id),
        "content_hash": content_hash,
        "teacher_id": _storable(teacher_id),
        "prompt_hash": prompt_hash,
        "reason": str(reason),
        "detail": _storable(detail[:MAX_DETAIL_CHARS]),
        "event_time": at_ms,
        "version": 1,
    }


def report_rows(report: TeacherReport, *, data_set: str, made_ms: int) -> list[dict[str, Any]]:
    """Return the rows for `teacher_reports`, one for each figure. `data_set` names whose grades were compared with.

    The same report sent twice is one; of several on a teacher, prompt and data set the one made last is shown.
    """
    identity = msgspec.json.encode((report, data_set))
    shared = {
        "report_id": hashlib.blake2b(identity, digest_size=8).hexdigest(),
        "teacher_id": _storable(report.teacher_id),
        "prompt_hash": report.prompt_hash,
        "data_set": _storable(data_set),
        "n_pairs": _count(report, "people_pairs"),
        "n_queries": _count(report, "people_queries"),
        "event_time": made_ms,
        "version": 1,
    }
    return [
        shared
        | {
            "metric": name,
            "value": figure.value,
            "low": figure.lower,
            "high": figure.upper,
            "why": _storable(figure.why),
        }
        for name, figure in report.figures.items()
    ]


def _identity(judgement: Judgement) -> str:
    try:
        return identity_of(judgement)
    except UnicodeEncodeError:
        return ""


def _count(report: TeacherReport, name: str) -> int:
    figure = report.figures.get(name)
    return int(figure.value) if figure is not None and figure.value is not None else 0


def _storable(text: str) -> str:
    """Return text without lone surrogates, which JSON answers can hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()
