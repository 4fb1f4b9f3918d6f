from __future__ import annotations

import pytest
import torch

from teacher.finetune.frozen_prefix import behind_prefix, read_prefix
from teacher.finetune.packing import TokenPair, collate, shared_prefix
from tests.teacher.finetune import samples

#: Sums in another order differ in the last bits of float32; logits here are of order 1.
TOLERANCE = 2e-5
PREFIX = (1, 2, 3, 4, 5, 6, 7)
PAIRS = [TokenPair((*PREFIX, 10 + n, 20, 21), (30, 31 + n)) for n in range(4)]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_logits_are_those_of_the_whole_pack_however_often_the_prefix_is_used(attention: str) -> None:
    model = samples.model(50)
    model.set_attn_implementation(attention)
    assert shared_prefix(PAIRS) == PREFIX
    batch = collate(PREFIX, PAIRS, additive=attention == "eager")
    with torch.inference_mode():
        whole = model(**{name: tensor for name, tensor in batch.items() if name != "labels"}).logits
        read = read_prefix(model, torch.tensor([PREFIX]))
        for _ in range(2):
            torch.testing.assert_close(
                behind_prefix(model, read, batch).logits, whole, rtol=0, atol=TOLERANCE
            )
    assert {keys.shape[-2] for keys, _ in read} == {len(PREFIX)}


def gradients(model: torch.nn.Module, logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    torch.autograd.backward(torch.nn.functional.cross_entropy(logits[0], labels[0]))
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def test_no_gradient_flows_through_the_prefix_and_the_rest_is_as_without() -> None:
    model = samples.model(50, tied=False)
    batch = collate(PREFIX, PAIRS)
    labels = batch["labels"]
    whole = gradients(
        model, model(**{name: tensor for name, tensor in batch.items() if name != "labels"}).logits, labels
    )
    frozen = gradients(
        model, behind_prefix(model, read_prefix(model, torch.tensor([PREFIX])), batch).logits, labels
    )
    embedding = "model.embed_tokens.weight"
    assert float(whole[embedding][list(PREFIX)].abs().max()) > 0
    assert float(frozen[embedding][list(PREFIX)].abs().max()) == 0
    # What lies behind the last attention never goes through the prefix.
    for name in ("lm_head.weight", "model.norm.weight", "model.layers.1.mlp.down_proj.weight"):
        torch.testing.assert_close(frozen[name], whole[name], rtol=1e-4, atol=TOLERANCE)
