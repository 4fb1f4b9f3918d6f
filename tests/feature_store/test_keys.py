"""Keys are Feast's own, byte for byte."""

from __future__ import annotations

import pytest
from feast.infra.key_encoding_utils import serialize_entity_key
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from feature_store.keys import entity_key, serialised

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@examples(deadline=None)
@given(keys=st.lists(st.tuples(_text, _text), max_size=5))
def test_keys_of_two_parts_are_feasts(keys: list[tuple[str, str]]) -> None:
    names = ("item_id", "query")
    assert serialised(names, keys) == [serialize_entity_key(entity_key(names, key)) for key in keys]


@examples(deadline=None)
@given(value=_text)
def test_keys_of_one_part_are_feasts(value: str) -> None:
    assert serialised(("query",), [(value,)]) == [serialize_entity_key(entity_key(("query",), (value,)))]


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        serialised(("query",), [("\ud800",)])
