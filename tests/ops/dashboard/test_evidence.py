"""Cutting evidence out of a text: whatever the spans, the text stays whole and each mark stands where it should."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ops.dashboard.evidence import clip, pieces

offsets = st.integers(-5, 40) | st.integers(-(2**70), 2**70)
any_spans = st.lists(st.none() | st.tuples(offsets, offsets), max_size=8)


@given(text=st.text(max_size=30), spans=any_spans)
def test_pieces_are_the_text_and_mark_exactly_the_characters_of_each_span(
    text: str, spans: list[tuple[int, int] | None]
) -> None:
    found = pieces(text, spans)
    assert "".join(piece.text for piece in found) == text
    assert all(piece.text for piece in found)
    for number, span in enumerate(spans):
        marked: list[int] = []
        at = 0
        for piece in found:
            if number in piece.inside:
                marked += range(at, at + len(piece.text))
            at += len(piece.text)
        expected = [] if span is None else [n for n in range(len(text)) if span[0] <= n < span[1]]
        assert marked == expected
        assert sum(number in piece.ends for piece in found) == bool(expected)


@given(span=st.tuples(offsets, offsets), length=st.integers(0, 40))
def test_a_clipped_span_lies_in_the_text(span: tuple[int, int], length: int) -> None:
    clipped = clip(span, length)
    if clipped is not None:
        assert 0 <= clipped[0] < clipped[1] <= length


def test_offsets_count_characters_not_their_halves() -> None:
    assert [piece.text for piece in pieces("👟👟 shoe", [(1, 2)])] == ["👟", "👟", " shoe"]
