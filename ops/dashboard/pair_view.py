"""A pair in data: why it has its score. The teacher's chain beside the texts, the student's tags, what was scored."""

from __future__ import annotations

from typing import Any

import msgspec
from clickhouse_connect.driver.client import Client

from ops.dashboard import loop_queries, pair_queries, teacher_queries, teacher_view
from ops.dashboard.evidence import Piece, pieces
from ops.dashboard.pair_queries import Lesson, PairJudgement, PairOverTime, PairSampled, VersionScore
from ops.dashboard.teacher_view import JudgementView
from ops.endpoints import NotRunningError
from ops.settings import Settings, Teacher
from streams.item_text import query_text

EXPLAIN_WITHIN_S = 5.0
MAX_SPANS = 200
#: The student that tags words.
KIND = "interaction"


class PairView(msgspec.Struct, frozen=True, kw_only=True):
    """A pair. `judgement` is the newest, None if there is none; `item_text` the newest that is known, empty if none.

    `serving` are the interaction student's version numbers by arm now; empty if none scores an arm.
    """

    query: str
    item_id: str
    item_text: str
    judgement: JudgementView | None
    judgements: list[PairJudgement]
    sampled: list[PairSampled]
    lessons: list[Lesson]
    scores: list[VersionScore]
    over_time: PairOverTime
    serving: dict[str, int]


class StudentTag(msgspec.Struct, frozen=True, kw_only=True):
    """Words that the student tagged; `verdict` is match or mismatch, `probability` in [0, 1] the mean of its tags."""

    verdict: str
    probability: float


class StudentView(msgspec.Struct, frozen=True, kw_only=True):
    """What the served student says now. Numbers in the pieces are those of `tags`. `away` says why it says nothing;
    then all else is empty."""

    student_version: str = ""
    score: float | None = None
    grades: dict[str, float] = {}
    query_pieces: list[Piece] = []
    item_pieces: list[Piece] = []
    tags: list[StudentTag] = []
    away: str = ""


def pair(client: Client, *, query: str, item_id: str, prices: Teacher) -> PairView | None:
    """Ask for a pair, None if the store has never heard of it. Raises ClickHouseError."""
    judgements = pair_queries.judgements_of(client, query=query, item_id=item_id)
    sampled = pair_queries.sampled_of(client, query=query, item_id=item_id)
    scores = pair_queries.scores_of(client, query=query, item_id=item_id)
    if not (judgements or sampled or scores):
        return None
    view = None
    if judgements:
        newest = judgements[0]
        stored = teacher_queries.judgement(
            client,
            query=newest.query,
            item_id=newest.item_id,
            content_hash=newest.content_hash,
            teacher_id=newest.teacher_id,
            prompt_hash=newest.prompt_hash,
        )
        if stored is not None:
            traffic = teacher_queries.pair_traffic(client, query=query, item_id=item_id)
            view = teacher_view.view(stored, traffic=traffic, prices=prices)
    return PairView(
        query=judgements[0].query if judgements else query,
        item_id=item_id,
        item_text=view.judgement.item_text if view else pair_queries.item_text_of(client, item_id=item_id),
        judgement=view,
        judgements=judgements,
        sampled=sampled,
        lessons=pair_queries.lessons_of(client, names=[each.name for each in judgements]),
        scores=scores,
        over_time=pair_queries.over_time(
            client,
            query=query,
            item_id=item_id,
            first_ms=min((each.first_ms for each in scores), default=0),
            last_ms=max((each.last_ms for each in scores), default=0),
        ),
        serving=loop_queries.serving(client, kind=KIND),
    )


def student(client: Client, settings: Settings, *, version: int, query: str, item_id: str) -> StudentView:
    """Ask Triton what a version, or with 0 the newest that scores an arm, says of a pair now, or say why it can't be
    asked. Raises ClickHouseError."""
    serving = loop_queries.serving(client, kind=KIND)
    version = version or serving.get("treatment") or serving.get("control", 0)
    text = newest_text(client, query=query, item_id=item_id)
    return asked(settings, version=version, query=query, item_text=text)


def newest_text(client: Client, *, query: str, item_id: str) -> str:
    """Return the item's text as it was judged last for the query, or last of all; empty if it is not known."""
    judgements = pair_queries.judgements_of(client, query=query, item_id=item_id)
    return pair_queries.item_text_of(
        client, item_id=item_id, content_hash=judgements[0].content_hash if judgements else ""
    )


def asked(settings: Settings, *, version: int, query: str, item_text: str) -> StudentView:
    """Ask Triton what a version says of a text now, or say why it can't be asked."""
    # Brings gRPC and the students' code with it, which only this page needs.
    from ops.scoring.explained import ExplainError, explain

    if not item_text:
        return StudentView(away="the item's text is not known here: it was never sampled or judged")
    if not version:
        return StudentView(away="no interaction student scores an arm")
    cleaned = query_text(query)
    try:
        said = explain(settings, cleaned, item_text, version=version, within_s=EXPLAIN_WITHIN_S)
    except (ExplainError, NotRunningError) as error:
        return StudentView(away=str(error))
    return student_view(said, query=cleaned, item_text=item_text)


def student_view(said: dict[str, Any], *, query: str, item_text: str) -> StudentView:
    """Cut the tagged words out of the texts; `said` is as `ops.scoring.explained.explain` returns it."""
    spans = said["spans"][:MAX_SPANS]

    def cut(text: str, side: str) -> list[Piece]:
        return pieces(
            text, [(each["start"], each["end"]) if each["side"] == side else None for each in spans]
        )

    return StudentView(
        student_version=said["student_version"],
        score=said["score"],
        grades=said["grades"],
        query_pieces=cut(query, "query"),
        item_pieces=cut(item_text, "item"),
        tags=[StudentTag(verdict=each["verdict"], probability=each["probability"]) for each in spans],
    )
