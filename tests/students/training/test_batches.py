"""Batches: every example once an epoch, like lengths together, pairs of a query together where asked."""

from __future__ import annotations

from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

from students.encoder import load_tokenizer
from students.examples import stripped
from students.grades import ESCI
from students.tags import IGNORED
from students.tokenisation import Limits, StudentTokeniser
from students.training.batches import epoch_batches, share_of
from students.training.features import collate, featurise, tag_counts
from tests.students.samples import examples


@given(
    rows=st.lists(st.tuples(st.integers(1, 96), st.integers(0, 9)), min_size=1, max_size=200),
    batch_pairs=st.integers(1, 16),
    buckets=st.booleans(),
    grouped=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_every_example_comes_once(
    rows: list[tuple[int, int]], batch_pairs: int, buckets: bool, grouped: bool, epoch: int
) -> None:
    lengths, queries = [length for length, _ in rows], [query for _, query in rows]

    def made() -> list[list[int]]:
        return epoch_batches(
            lengths, queries, batch_pairs=batch_pairs, seed=1, epoch=epoch, buckets=buckets, grouped=grouped
        )

    found = made()
    assert sorted(place for batch in found for place in batch) == list(range(len(rows)))
    assert sum(len(batch) < batch_pairs for batch in found) <= 1
    assert found == made()


@given(count=st.integers(1, 20), processes=st.integers(1, 8))
def test_processes_share_evenly_and_completely(count: int, processes: int) -> None:
    batches = [[number] for number in range(count)]
    shares = [share_of(batches, process=number, processes=processes) for number in range(processes)]
    assert len({len(share) for share in shares}) == 1
    assert {place for share in shares for [place] in share} == set(range(count))


def test_buckets_waste_less_padding() -> None:
    lengths = [10 + 37 * number % 80 for number in range(1_000)]

    def padded(buckets: bool) -> int:
        batches = epoch_batches(
            lengths, list(range(1_000)), batch_pairs=16, seed=1, epoch=0, buckets=buckets, grouped=False
        )
        return sum(len(batch) * max(lengths[place] for place in batch) for batch in batches)

    assert padded(True) < 1.05 * sum(lengths) < 1.4 * sum(lengths) < padded(False)


def test_pairs_of_a_query_meet_where_asked() -> None:
    queries = [number % 50 for number in range(400)]

    def comparable(grouped: bool) -> int:
        batches = epoch_batches(
            [20] * 400, queries, batch_pairs=16, seed=1, epoch=0, buckets=True, grouped=grouped
        )
        return sum(
            queries[one] == queries[two] for batch in batches for one in batch for two in batch if one < two
        )

    assert comparable(True) > 3 * comparable(False)


def test_a_batch_masks_what_an_example_lacks(small_encoder: Path) -> None:
    tokeniser = StudentTokeniser(load_tokenizer(small_encoder), Limits())
    whole = examples(queries=1)
    given = [whole[0], *stripped(whole[1:2], distribution=False, chain=False)]
    for paradigm, sides in (("interaction", 1), ("representation", 2)):
        features, lost = featurise(
            given, tokeniser, paradigm="interaction" if sides == 1 else "representation", scale=ESCI
        )
        batch = collate(features, tokeniser, ESCI)
        assert len(batch.texts) == sides, paradigm
        assert batch.distilled.tolist() == [True, False]
        torch.testing.assert_close(batch.scores, torch.tensor([0.9 + 0.005 + 0.0003, 0.0]))
        for texts in batch.texts:
            assert texts.evident.tolist() == [True, False]
            assert (texts.tags[1] == IGNORED).all()
            assert (texts.tags[texts.attention_mask == 0] == IGNORED).all()
        assert lost.outside == 0
        assert sum(tag_counts(features)) == sum((texts.tags != IGNORED).sum().item() for texts in batch.texts)
