"""What the served student says of a pair, cut out of the texts; and what is said where it can't be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.dashboard.evidence import Piece
from ops.dashboard.pair_view import MAX_SPANS, asked, student_view
from ops.settings import Settings

QUERY, ITEM = "red steel kettle", "Norvik kettle\ncolour: crimson"


def said(*spans: dict[str, Any]) -> dict[str, Any]:
    return {
        "student_version": "interaction-3",
        "score": 0.25,
        "grades": {"E": 0.2, "I": 0.8},
        "spans": list(spans),
    }


def span(side: str, start: int, end: int, verdict: str = "match") -> dict[str, Any]:
    return {"side": side, "start": start, "end": end, "verdict": verdict, "probability": 0.9}


def marked(pieces: list[Piece]) -> list[tuple[str, list[int]]]:
    return [(piece.text, piece.inside) for piece in pieces if piece.inside]


def test_words_are_marked_in_the_text_they_stand_in() -> None:
    view = student_view(
        said(span("query", 10, 16), span("item", 7, 13), span("query", 0, 3, "mismatch")),
        query=QUERY,
        item_text=ITEM,
    )
    assert marked(view.query_pieces) == [("red", [2]), ("kettle", [0])]
    assert marked(view.item_pieces) == [("kettle", [1])]
    assert [each.verdict for each in view.tags] == ["match", "match", "mismatch"]
    assert (view.score, view.student_version, view.away) == (0.25, "interaction-3", "")
    assert "".join(piece.text for piece in view.item_pieces) == ITEM


@given(
    st.lists(
        st.builds(span, st.sampled_from(["query", "item", "x"]), st.integers(-9, 99), st.integers(-9, 99)),
        max_size=8,
    )
)
def test_any_spans_leave_the_texts_whole(spans: list[dict[str, Any]]) -> None:
    view = student_view(said(*spans), query=QUERY, item_text=ITEM)
    assert "".join(piece.text for piece in view.query_pieces) == QUERY
    assert "".join(piece.text for piece in view.item_pieces) == ITEM


def test_no_more_than_so_many_words_are_marked() -> None:
    view = student_view(said(*[span("query", 0, 3)] * (2 * MAX_SPANS)), query=QUERY, item_text=ITEM)
    assert len(view.tags) == MAX_SPANS


@pytest.mark.parametrize(
    ("version", "item_text", "why"),
    [(3, "", "text is not known"), (0, ITEM, "no interaction student"), (3, ITEM, "no Triton")],
)
def test_it_says_why_no_student_was_asked(tmp_path: Path, version: int, item_text: str, why: str) -> None:
    settings = Settings.model_validate({"run_dir": tmp_path})
    view = asked(settings, version=version, query=QUERY, item_text=item_text)
    assert why in view.away
    assert (view.score, view.tags, view.query_pieces) == (None, [], [])


def test_a_triton_that_does_not_answer_is_said(tmp_path: Path) -> None:
    settings = Settings.model_validate({"run_dir": tmp_path, "triton": "127.0.0.1:1"})
    view = asked(settings, version=3, query=QUERY, item_text=ITEM)
    assert "UNAVAILABLE" in view.away or "DEADLINE_EXCEEDED" in view.away
