from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ops.group_lag import records_behind

offsets = st.integers(0, 10**12)


def test_a_partition_without_a_commit_counts_from_its_first_record() -> None:
    assert (
        records_behind(
            earliest={("t", 0): 4, ("t", 1): 0}, latest={("t", 0): 9, ("t", 1): 7}, committed={("t", 1): 5}
        )
        == 7
    )


@given(st.lists(st.tuples(offsets, offsets, offsets | st.just(-1)), max_size=8))
def test_lag_is_between_zero_and_what_the_topic_holds(partitions: list[tuple[int, int, int]]) -> None:
    earliest = {("t", i): min(first, end) for i, (first, end, _) in enumerate(partitions)}
    latest = {("t", i): max(first, end) for i, (first, end, _) in enumerate(partitions)}
    committed = {("t", i): at for i, (_, _, at) in enumerate(partitions)}
    held = sum(latest[key] - earliest[key] for key in latest)
    assert 0 <= records_behind(earliest=earliest, latest=latest, committed=committed) <= held
