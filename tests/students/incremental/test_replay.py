from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from students.examples import TrainingExample
from students.incremental.judged import CLASSES, Judged
from students.incremental.replay import MOST_PERIODS, Stored, even_shares, kept, period_length, replayed


def stored(number: int, *, traffic_class: str = "tail", update: int = 1) -> Stored:
    example = TrainingExample(query=f"q{number}", item_id="i", item_text="mug", grade="E")
    return Stored(
        judged=Judged(
            identity=f"{number:016x}", example=example, traffic_class=traffic_class, judged_ms=1, sampled_ms=0
        ),
        update=update,
    )


SIZES = st.dictionaries(st.tuples(st.sampled_from(CLASSES), st.integers(0, 7)), st.integers(0, 50))
STORES = st.lists(
    st.tuples(st.integers(0, 10_000), st.sampled_from(CLASSES), st.integers(1, 30)),
    max_size=80,
    unique_by=lambda each: each[0],
).map(lambda rows: [stored(n, traffic_class=of, update=u) for n, of, u in rows])


@given(SIZES, st.integers(0, 500))
def test_shares_are_as_even_as_the_strata_allow(sizes: dict[tuple[str, int], int], total: int) -> None:
    taken = even_shares(sizes, total)
    assert sum(taken.values()) == min(total, sum(sizes.values()))
    assert all(0 <= taken[each] <= sizes[each] for each in sizes)
    cut = [taken[each] for each in sizes if taken[each] < sizes[each]]
    assert not cut or max(taken.values()) <= min(cut) + 1


@given(STORES, st.integers(0, 60), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_what_is_kept_is_bounded_and_does_not_depend_on_order(
    store: list[Stored], capacity: int, rng: object
) -> None:
    shuffled = list(store)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    first = kept(store, capacity=capacity, updates=30, seed=1)
    assert len(first) == min(capacity, len(store))
    assert first == kept(shuffled, capacity=capacity, updates=30, seed=1)


def test_rare_classes_and_old_periods_stay_though_recent_tail_floods() -> None:
    store: list[Stored] = []
    for update in range(1, 41):
        new = [stored(1000 * update + n, update=update) for n in range(90)]
        new += [stored(1000 * update + n, traffic_class="head", update=update) for n in range(90, 100)]
        store = kept([*store, *new], capacity=400, updates=update, seed=1)
    assert len(store) == 400
    length = period_length(40)
    assert (length, 40 / length <= MOST_PERIODS) == (8, True)
    periods = [sum((each.update - 1) // length == period for each in store) for period in range(5)]
    assert min(periods) >= 60
    assert sum(each.judged.traffic_class == "head" for each in store) >= 150
    again = [each.identity for each in replayed(store, count=50, update=41, seed=1, without=())]
    assert len(again) == 50
    by_period = [
        sum((each.update - 1) // length == period for each in store if each.judged.identity in again)
        for period in range(5)
    ]
    assert min(by_period) >= 5


def test_replay_changes_by_update_and_leaves_out_what_is_fresh() -> None:
    store = [stored(number) for number in range(100)]
    first = replayed(store, count=20, update=1, seed=1, without={store[0].judged.identity})
    second = replayed(store, count=20, update=2, seed=1, without=())
    assert first == replayed(store, count=20, update=1, seed=1, without={store[0].judged.identity})
    assert first != second
    everything = replayed(store, count=500, update=1, seed=1, without={store[0].judged.identity})
    assert {each.identity for each in everything} == {each.judged.identity for each in store[1:]}


def test_what_is_stored_comes_back_from_bytes() -> None:
    store = [stored(number) for number in range(3)]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(store), type=list[Stored]) == store
