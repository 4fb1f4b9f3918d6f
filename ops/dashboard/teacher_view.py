"""The teacher's page in data: the figures at its top, and one judgement with its evidence cut out of the texts."""

from __future__ import annotations

import msgspec
from clickhouse_connect.driver.client import Client

from ops.dashboard import teacher_queries
from ops.dashboard.evidence import Piece, Span, clip, pieces
from ops.dashboard.teacher_queries import (
    Choices,
    GradeMix,
    PairTraffic,
    RefusalCount,
    ReportFigure,
    StoredJudgement,
    TeacherFigures,
)
from ops.settings import Teacher
from streams.records import SubtaskVerdict

#: A policy has a dozen subtasks; more come only from rows that no teacher of this project wrote.
MAX_VERDICTS = 64


class Cost(msgspec.Struct, frozen=True):
    """Dollars by the prices in the settings; None where none is set."""

    usd_per_1000_judgements: float | None
    usd_total: float | None


class MixDrift(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the grade mix of the teacher that judged last has moved; the states are `ops.evaluation.drift.Drift`.

    `since_ms` is when the later of the two periods begins. `psi` and `p_value` are None where `why` says so.
    """

    teacher_id: str
    prompt_hash: str
    since_ms: int
    state: str
    psi: float | None
    p_value: float | None
    why: str


class TeacherOverview(msgspec.Struct, frozen=True, kw_only=True):
    """The top of the page. `all` is None before the first judgement; `cost` is that of all judgements."""

    all: TeacherFigures | None
    teachers: list[TeacherFigures]
    cost: Cost
    mix: GradeMix | None
    drift: MixDrift | None
    refusals: list[RefusalCount]
    reports: list[ReportFigure]
    choices: Choices


class VerdictView(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the chain. `query_found` and `item_found` tell whether the words stand in the text."""

    subtask: str
    verdict: str
    query_words: str
    item_words: str
    query_found: bool
    item_found: bool


class JudgementView(msgspec.Struct, frozen=True, kw_only=True):
    """A judgement to read beside its pair. Numbers in the pieces are those of `verdicts`.

    `unreadable` tells that verdicts are stored but are none; then there are none here.
    """

    judgement: StoredJudgement
    query_pieces: list[Piece]
    item_pieces: list[Piece]
    verdicts: list[VerdictView]
    unreadable: bool
    usd: float | None
    traffic: PairTraffic


def overview(client: Client, prices: Teacher) -> TeacherOverview:
    """Ask for the top of the page. Raises ClickHouseError."""
    total, teachers = teacher_queries.teacher_figures(client)
    return TeacherOverview(
        all=total,
        teachers=teachers,
        cost=_cost(total, prices),
        mix=teacher_queries.grade_mix(client, first_ms=total.first_ms, last_ms=total.last_ms)
        if total
        else None,
        drift=drift(client, teachers[0]) if teachers else None,
        refusals=teacher_queries.refusals(client),
        reports=teacher_queries.newest_reports(client),
        choices=teacher_queries.choices(client),
    )


def _cost(total: TeacherFigures | None, prices: Teacher) -> Cost:
    if total is None:
        return Cost(None, None)
    each = usd(prices, prompt_tokens=total.prompt_tokens, completion_tokens=total.completion_tokens)
    return Cost(None, None) if each is None else Cost(1000 * each, total.judgements * each)


def drift(client: Client, newest: TeacherFigures) -> MixDrift:
    """Compare a teacher's latest grade mix with its earlier one. Raises ClickHouseError."""
    # Brings SciPy with it, which only this page needs.
    from ops.evaluation.drift import grade_drift

    change = teacher_queries.mix_change(client, newest)
    found = grade_drift(change.before, change.since)
    return MixDrift(
        teacher_id=newest.teacher_id,
        prompt_hash=newest.prompt_hash,
        since_ms=change.split_ms,
        state=found.state.value,
        psi=found.psi,
        p_value=found.p_value,
        why=found.why,
    )


def usd(prices: Teacher, *, prompt_tokens: float, completion_tokens: float) -> float | None:
    """Return what so many tokens cost in dollars, None where the settings name no price."""
    prompt, completion = prices.usd_per_million_prompt_tokens, prices.usd_per_million_completion_tokens
    if not prompt and not completion:
        return None
    return (prompt * prompt_tokens + completion * completion_tokens) / 1e6


def view(stored: StoredJudgement, *, traffic: PairTraffic, prices: Teacher) -> JudgementView:
    """Cut the evidence out of the texts. Any stored row gives a view."""
    found = read_verdicts(stored.verdicts)
    verdicts = (found or [])[:MAX_VERDICTS]
    return JudgementView(
        judgement=stored,
        query_pieces=pieces(stored.query, [verdict.query_span for verdict in verdicts]),
        item_pieces=pieces(stored.item_text, [verdict.item_span for verdict in verdicts]),
        verdicts=[
            VerdictView(
                subtask=verdict.subtask,
                verdict=verdict.verdict,
                query_words=verdict.query_words,
                item_words=verdict.item_words,
                query_found=_in_text(verdict.query_span, stored.query),
                item_found=_in_text(verdict.item_span, stored.item_text),
            )
            for verdict in verdicts
        ],
        unreadable=found is None,
        usd=usd(prices, prompt_tokens=stored.prompt_tokens, completion_tokens=stored.completion_tokens),
        traffic=traffic,
    )


def read_verdicts(text: str) -> list[SubtaskVerdict] | None:
    """Read a column `verdicts`; None if it holds something else.

    >>> read_verdicts("[]"), read_verdicts('{"subtask": 3}')
    ([], None)
    """
    try:
        return msgspec.json.decode(text, type=list[SubtaskVerdict])
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


def _in_text(span: Span | None, text: str) -> bool:
    return clip(span, len(text)) is not None
