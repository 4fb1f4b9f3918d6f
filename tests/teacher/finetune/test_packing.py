from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from teacher.finetune.packing import PackingError, TokenPair, collate, pack, shared_prefix, tokens_of
from tests.teacher.finetune import samples

#: Sums in another order differ in the last bits of float32; logits here are of order 1.
TOLERANCE = 2e-5
TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=12).map(tuple)
PAIRS = st.lists(st.builds(TokenPair, TOKENS, TOKENS), min_size=1, max_size=6)


def random_pairs(count: int, *, prefix: int, vocabulary: int, seed: int = 3) -> list[TokenPair]:
    generator = torch.Generator().manual_seed(seed)

    def some(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(0, vocabulary, (length,), generator=generator).tolist())

    shared = some(prefix)
    return [TokenPair((*shared, number, *some(3 + number)), some(2 + number % 3)) for number in range(count)]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_logits_and_gradients_are_those_of_each_pair_alone(attention: str) -> None:
    model = samples.model(50)
    model.set_attn_implementation(attention)
    pairs = random_pairs(4, prefix=9, vocabulary=50)
    batch = collate(shared_prefix(pairs), pairs, additive=attention == "eager")
    labels = batch.pop("labels")[0]
    packed = model(**batch).logits[0]
    torch.autograd.backward(torch.nn.functional.cross_entropy(packed, labels, reduction="sum"))
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()

    alone = []
    for pair in pairs:
        logits = model(input_ids=torch.tensor([pair.prompt + pair.answer])).logits[0]
        alone.append(logits[len(pair.prompt) - 1 : -1])
        answer = torch.tensor(pair.answer)
        torch.autograd.backward(torch.nn.functional.cross_entropy(alone[-1], answer, reduction="sum"))

    torch.testing.assert_close(packed, torch.cat(alone), rtol=0, atol=TOLERANCE)
    assert labels.tolist() == [token for pair in pairs for token in pair.answer]
    for name, weight in model.named_parameters():
        # Gradients sum over tokens and are larger than logits.
        torch.testing.assert_close(gradients[name], weight.grad, rtol=1e-4, atol=10 * TOLERANCE)
    assert max(float(gradient.abs().max()) for gradient in gradients.values()) > 0.1


def test_a_pair_that_saw_another_would_have_other_logits() -> None:
    model = samples.model(50)
    pairs = random_pairs(3, prefix=9, vocabulary=50)
    batch = collate(shared_prefix(pairs), pairs)
    batch.pop("labels")
    with torch.inference_mode():
        apart = model(**batch).logits[0]
        batch["attention_mask"] = torch.ones_like(batch["attention_mask"]).tril()
        together = model(**batch).logits[0]
    first = len(pairs[0].answer)
    torch.testing.assert_close(apart[:first], together[:first], rtol=0, atol=TOLERANCE)
    assert float((apart[first:] - together[first:]).abs().max()) > 100 * TOLERANCE


@given(PAIRS)
@settings(deadline=None)
def test_a_token_sees_the_prefix_and_what_came_before_it_in_its_own_pair(pairs: list[TokenPair]) -> None:
    prefix = shared_prefix(pairs)
    batch = collate(prefix, pairs)
    ids, positions = batch["input_ids"][0].tolist(), batch["position_ids"][0].tolist()
    allowed = batch["attention_mask"][0, 0]
    owners = [0] * len(prefix)
    for number, pair in enumerate(pairs, start=1):
        owners += [number] * (len(pair.prompt) - len(prefix) + len(pair.answer))
    assert len(ids) == len(positions) == len(owners) == next(tokens_of([pairs], prefix))
    assert allowed.shape == (len(ids), len(ids))
    for row in range(len(ids)):
        for column in range(len(ids)):
            assert bool(allowed[row, column]) == (column <= row and owners[column] in (0, owners[row]))
        # What a token sees is its pair's own text up to it, at the places that it would have alone.
        seen = allowed[row].nonzero().flatten().tolist()
        whole = prefix if not owners[row] else pairs[owners[row] - 1].prompt + pairs[owners[row] - 1].answer
        assert tuple(ids[index] for index in seen) == whole[: len(seen)]
        assert [positions[index] for index in seen] == list(range(len(seen)))


@given(PAIRS)
@settings(deadline=None)
def test_kept_positions_are_the_ones_before_each_answer_token(pairs: list[TokenPair]) -> None:
    batch = collate(shared_prefix(pairs), pairs)
    ids, kept = batch["input_ids"][0].tolist(), batch["logits_to_keep"].tolist()
    assert batch["labels"].tolist() == [[token for pair in pairs for token in pair.answer]]
    assert [batch["position_ids"][0, place].item() for place in kept] == [
        len(pair.prompt) - 1 + number for pair in pairs for number in range(len(pair.answer))
    ]
    before = [(pair.prompt + pair.answer)[len(pair.prompt) - 1 : -1] for pair in pairs]
    assert [ids[place] for place in kept] == [token for tokens in before for token in tokens]


@given(PAIRS)
def test_the_shared_prefix_is_the_longest_that_leaves_a_token_to_each(pairs: list[TokenPair]) -> None:
    prefix = shared_prefix(pairs)
    length = len(prefix)
    assert all(pair.prompt[:length] == prefix for pair in pairs)
    shortest = min(len(pair.prompt) for pair in pairs)
    assert length < shortest
    assert length == shortest - 1 or len({pair.prompt[: length + 1] for pair in pairs}) > 1


def test_one_pair_is_packed_behind_all_but_its_last_prompt_token() -> None:
    pair = TokenPair((5, 6, 7), (8, 9))
    assert shared_prefix([pair]) == (5, 6)
    batch = collate((5, 6), [pair])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4]]
    assert batch["logits_to_keep"].tolist() == [2, 3]


def test_no_pairs_are_refused() -> None:
    with pytest.raises(PackingError, match="at least one pair"):
        shared_prefix([])


def test_pairs_are_shuffled_into_packs_by_the_seed_and_none_is_lost() -> None:
    pairs = random_pairs(20, prefix=4, vocabulary=50)
    prefix, packs, left_out = pack(pairs, pairs_per_pack=6, max_pair_tokens=100, seed=1)
    assert prefix == shared_prefix(pairs)
    assert [len(each) for each in packs] == [6, 6, 6, 2]
    flat = [pair for each in packs for pair in each]
    assert left_out == 0
    assert flat != pairs
    assert sorted(flat, key=pairs.index) == pairs
    assert pack(pairs, pairs_per_pack=6, max_pair_tokens=100, seed=1)[1] == packs
    assert pack(pairs, pairs_per_pack=6, max_pair_tokens=100, seed=2)[1] != packs


def test_pairs_that_are_too_long_are_left_out_and_counted() -> None:
    short, long = TokenPair((1, 2), (3,)), TokenPair((1, 2, *range(50)), (3,))
    _, packs, left_out = pack([short, long, short], pairs_per_pack=8, max_pair_tokens=10, seed=1)
    assert (packs, left_out) == ([[short, short]], 1)
    with pytest.raises(PackingError, match="all 1 pairs are longer than max_pair_tokens = 3"):
        pack([TokenPair((1, 2), (3, 4, 5))], pairs_per_pack=2, max_pair_tokens=3, seed=1)
