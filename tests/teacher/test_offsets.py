"""Offsets that may be committed, whatever the order in which records are finished."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from teacher.offsets import OpenOffsets


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_never_more_is_committed_than_what_is_finished_without_a_gap(seed: int, records: int) -> None:
    rng = random.Random(seed)
    offsets = OpenOffsets[int]()
    # Gaps are the broker's own: markers, compaction.
    read = {
        partition: sorted(rng.sample(range(200), min(records, rng.randrange(1, 60)))) for partition in (0, 1)
    }
    waiting = [(partition, offset) for partition, found in read.items() for offset in found]
    for partition, offset in waiting:
        assert offsets.take(partition, offset)
        assert not offsets.take(partition, offset)
    rng.shuffle(waiting)
    finished: set[tuple[int, int]] = set()
    for partition, offset in waiting:
        offsets.done(partition, offset)
        finished.add((partition, offset))
        for of, upto in offsets.to_commit().items():
            assert all((of, each) in finished for each in read[of] if each < upto)
        if rng.random() < 0.3:
            offsets.committed(offsets.to_commit())
            assert offsets.to_commit() == {}
    assert len(offsets) == 0
    assert {partition: offsets.next_of(partition) for partition in read} == {
        partition: found[-1] + 1 for partition, found in read.items()
    }
    assert not offsets.take(0, read[0][0])
