"""Token classification of the evidence: BIO tags with match and mismatch (Ramshaw and Marcus 1995 for BIO).

    loss = sum over tokens of w[y] * -log softmax(z)[y]  /  sum over tokens of w[y]

z [B, L, T] tag logits, y [B, L] tags; padding, special tokens, conflicts and pairs without a chain are IGNORED and
not in the sums. Most tokens are outside of all evidence: `tag_weights` makes the rare tags heavier by the square
root of how much rarer they are, which is our choice (the full ratio lets single tokens rule a batch).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from students.tags import IGNORED, TAGS

#: A tag that is hardly ever seen must not rule a batch.
HEAVIEST = 10.0


def bio_tags_loss(tag_logits: Tensor, tags: Tensor, weights: Tensor) -> Tensor:
    """Return the loss, a scalar >= 0 in nats: logits [B, L, T], tags [B, L] int64 or IGNORED, weights [T] > 0."""
    flat = tags.flatten()
    losses = functional.cross_entropy(
        tag_logits.flatten(0, 1),
        flat,
        weight=weights.to(tag_logits.dtype),
        ignore_index=IGNORED,
        reduction="sum",
    )
    counted = flat != IGNORED
    weight = weights[flat.clamp(min=0)].to(tag_logits.dtype) * counted
    return losses / weight.sum().clamp(min=1.0)


def tag_weights(counts: Sequence[int]) -> Tensor:
    """Return a weight [T] for each tag from how many tokens have it: sqrt(most / count), from 1 to HEAVIEST.

    >>> [round(weight, 6) for weight in tag_weights([900, 100, 225, 1, 0]).tolist()]
    [1.0, 3.0, 2.0, 10.0, 10.0]
    """
    if len(counts) != len(TAGS):
        raise ValueError(f"expected {len(TAGS)} counts, one for each tag, got {len(counts)}")
    seen = torch.tensor([max(1, count) for count in counts], dtype=torch.float32)
    return (seen.max() / seen).sqrt().clamp(max=HEAVIEST)
