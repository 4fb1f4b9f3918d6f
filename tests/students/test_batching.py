"""Inputs of many lengths in few batches; scores from logits and from vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from students.batching import batches, run_by_length
from students.grades import ESCI
from students.grades import relevance_score as by_torch
from students.scores import grade_distribution, relevance_score, towers_score
from students.tokenisation import Inputs, Limits, StudentTokeniser
from tests.students.samples import small_tokenizer


@given(st.lists(st.integers(1, 96), max_size=200), st.integers(1, 64), st.integers(0, 2000))
def test_every_input_is_in_one_batch_and_no_cut_would_pay(
    lengths: list[int], max_batch: int, execution_tokens: int
) -> None:
    made = list(batches(lengths, max_batch=max_batch, execution_tokens=execution_tokens))
    assert sorted(place for batch in made for place in batch) == list(range(len(lengths)))
    for batch in made:
        assert 1 <= len(batch) <= max_batch
        sizes = [lengths[place] for place in batch]
        assert sizes == sorted(sizes, reverse=True)
        for cut in range(1, len(sizes)):
            assert (sizes[0] - sizes[cut]) * (len(sizes) - cut) <= execution_tokens


def test_answers_come_back_in_order() -> None:
    tokeniser = StudentTokeniser(small_tokenizer(), Limits(query=8, input=32))
    inputs = tokeniser.queries(["red", "blue kettle " * 3, "", "tea pot mug"])
    batch_sizes = []

    def run(batch: Inputs) -> list[np.ndarray]:
        batch_sizes.append(len(batch.input_ids))
        return [batch.attention_mask.sum(axis=1, dtype=np.float32)]

    assert [float(each[0]) for each in run_by_length(tokeniser, inputs, run)] == [
        len(each) for each in inputs
    ]
    assert sum(batch_sizes) == 4
    assert run_by_length(tokeniser, [], run) == []


@given(st.lists(st.floats(-50, 50, width=32), min_size=4, max_size=4))
def test_scores_are_those_of_training(logits: list[float]) -> None:
    found = relevance_score(grade_distribution(np.array([logits], dtype=np.float32)), ESCI.gains)
    expected = by_torch(torch.tensor([logits]), torch.tensor(ESCI.gains))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def test_towers_score_by_hand() -> None:
    query = np.array([1.0, 0.0], dtype=np.float32)
    items = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    found = towers_score(query, items, slope=(2.0, -2.0), offset=(-1.0, 1.0), gains=(1.0, 0.0))
    # Logits 1, -1 and -1, 1: p = 1 / (1 + e**-2) and its complement.
    assert found.tolist() == pytest.approx([0.880797, 0.119203], abs=1e-6)
