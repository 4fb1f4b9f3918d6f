"""Training behind a prefix that is read, not trained: the shared beginning is run once a step, without gradients.

The pairs still attend to it, so their logits are those of the whole prompt; only the gradient that would flow
through the prefix's own keys and values is left out. Of a pack, that saves two thirds of the prefix's work, and all
of it for every pack of a step but the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import Trainer
from transformers.cache_utils import DynamicCache

Loss = Callable[..., torch.Tensor]


class FrozenPrefixTrainer(Trainer):
    """transformers' Trainer on packs (`packing.collate`) that all begin with `prefix`."""

    def __init__(self, *, prefix: Sequence[int], answer_loss: Loss, **arguments: Any) -> None:
        """`answer_loss(outputs, labels, num_items_in_batch)` is the loss of a pack's kept logits."""
        super().__init__(compute_loss_func=answer_loss, **arguments)
        self._prefix = torch.tensor([list(prefix)])
        self._answer_loss = answer_loss
        self._read_at = -1
        self._keys_and_values: list[tuple[torch.Tensor, torch.Tensor]] = []

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the loss of a pack, with the outputs if asked for."""
        if self._read_at != self.state.global_step:
            self._keys_and_values = read_prefix(model, self._prefix.to(inputs["input_ids"].device))
            self._read_at = self.state.global_step
        outputs = behind_prefix(model, self._keys_and_values, inputs)
        loss = self._answer_loss(outputs, inputs["labels"], num_items_in_batch)
        return (loss, outputs) if return_outputs else loss


def read_prefix(model: torch.nn.Module, prefix: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return each layer's keys and values for a prefix (1, P), without gradients."""
    with torch.no_grad():
        cache = model(input_ids=prefix, use_cache=True, logits_to_keep=1).past_key_values
    return [(layer.keys, layer.values) for layer in cache.layers]


def behind_prefix(
    model: torch.nn.Module,
    keys_and_values: Sequence[tuple[torch.Tensor, torch.Tensor]],
    inputs: Mapping[str, torch.Tensor],
) -> Any:
    """Return the model's outputs for a pack (`packing.collate`) whose prefix has been read already."""
    length = keys_and_values[0][0].shape[-2]
    return model(
        input_ids=inputs["input_ids"][:, length:],
        position_ids=inputs["position_ids"][:, length:],
        attention_mask=inputs["attention_mask"][:, :, length:],
        logits_to_keep=inputs["logits_to_keep"] - length,
        past_key_values=DynamicCache(ddp_cache_data=keys_and_values),
        use_cache=True,
    )
