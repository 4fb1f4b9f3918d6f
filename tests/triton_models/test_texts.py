"""Strangers' bytes: read within limits or refused, and cleaned as everywhere else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.item_text import item_text, query_text
from triton_models.shared.texts import RefusedError, TextLimits, clean_item, items_of, queries_of

LIMITS = TextLimits(items=3, text_bytes=40)


def array(rows: list[list[bytes]]) -> np.ndarray:
    made = np.empty((len(rows), len(rows[0])), dtype=np.object_)
    made[:] = rows
    return made


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        (query,) = queries_of(array([[content]]), LIMITS)
    except RefusedError as error:
        assert "expected query 0" in str(error)
        assert len(content) > LIMITS.text_bytes or not is_text(content)
    else:
        assert query == query_text(content.decode())


def is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(st.text(max_size=60), st.text(max_size=30), st.lists(st.text(max_size=20), max_size=4))
def test_an_items_text_made_elsewhere_stays_as_it_is(title: str, brand: str, category: list[str]) -> None:
    made = item_text(title=title, brand=brand, category=category)
    assert clean_item(made) == made


@given(st.text(max_size=200))
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean_item(clean_item(text)) == clean_item(text)


def test_limits_are_named() -> None:
    with pytest.raises(RefusedError, match="expected 1 to 3 items in a request, got 4"):
        items_of(array([[b"a"] * 4]), LIMITS)
    with pytest.raises(RefusedError, match="expected item text 1 of at most 40 bytes, got 41"):
        items_of(array([[b"a", b"a" * 41]]), LIMITS)
    with pytest.raises(RefusedError, match="expected 1 to 3 items in a request, got 0"):
        LIMITS.check_items(0)
    assert items_of(array([[b"a\nb: c", b"d"]]), LIMITS) == [["a\nb: c", "d"]]
    with pytest.raises(KeyError, match="max_items"):
        TextLimits.of({"parameters": {}})
