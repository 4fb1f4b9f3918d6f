"""Judged pairs: what a change of content makes obsolete, once, whatever is repeated, lost or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from feature_store.judged import JudgedPair, JudgedPairs
from ops.settings import Settings


@pytest.fixture(name="judged")
def _judged(tmp_path: Path) -> JudgedPairs:
    (tmp_path / "features").mkdir()
    return JudgedPairs(Settings.model_validate({"run_dir": str(tmp_path)}))


def test_pairs_judged_on_other_texts_alone_are_obsolete_until_they_are_sent(judged: JudgedPairs) -> None:
    pairs = [
        JudgedPair("mug", "a", "old"),
        JudgedPair("mug", "a", "older"),
        JudgedPair("cup", "a", "old"),
        JudgedPair("cup", "a", "new"),
        JudgedPair("mug", "b", "old"),
    ]
    judged.add([*pairs, *pairs])
    judged.filled_to({0: 5, 2: 9})
    assert judged.obsolete({"a": "new", "b": "old", "c": "new"}) == {"a": ["mug"]}
    judged.add([JudgedPair("mug", "a", "new")])
    assert judged.obsolete({"a": "new"}) == {}
    # Back to a text that was judged: nothing to ask.
    assert judged.obsolete({"a": "old"}) == {}
    assert judged.obsolete({"a": "newest"}) == {"a": ["cup", "mug"]}
    assert [judged.next_offset(number) for number in (0, 1, 2)] == [5, 0, 9]


def test_a_damaged_file_is_named_and_without_it_reading_starts_anew(judged: JudgedPairs) -> None:
    judged.add([JudgedPair("mug", "a", "old")])
    judged.filled_to({0: 5})
    for suffix in ("-wal", "-shm"):
        judged.path.with_name(judged.path.name + suffix).unlink(missing_ok=True)
    judged.path.write_bytes(b"\xa5" * 8192)
    with pytest.raises(OSError, match="without the file it is made anew"):
        judged.obsolete({"a": "new"})
    judged.path.unlink()
    assert judged.next_offset(0) == 0


_texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)


@examples(deadline=None, max_examples=25)
@given(st.lists(st.builds(JudgedPair, _texts, st.sampled_from("ab"), st.sampled_from("hij")), max_size=12))
def test_obsolete_is_what_the_pairs_say(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[JudgedPair]
) -> None:
    folder = tmp_path_factory.mktemp("judged")
    (folder / "features").mkdir()
    judged = JudgedPairs(Settings.model_validate({"run_dir": str(folder)}))
    judged.add(pairs)
    expected = {
        item: sorted(
            query
            for query in {pair.query for pair in pairs if pair.item_id == item}
            if JudgedPair(query, item, "h") not in pairs
        )
        for item in "ab"
    }
    assert judged.obsolete({"a": "h", "b": "h"}) == {item: found for item, found in expected.items() if found}
