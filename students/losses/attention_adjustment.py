"""Pooling attention drawn to the words that the chain of thought used. The formula is ours.

    f_t = factor where token t is evidence, 1 at other real tokens, 0 at padding
    r = f / sum f
    loss = mean over texts of  sum_t r_t (log r_t - log a_t)

a [B, L] a tower's pooling attention, rows summing to 1. `factor` says how many times the attention of any other
token a used one shall have: it adjusts the attention, and leaves a share for words that no chain named, since a
tower reads its text without knowing the other side. Match and mismatch count alike: both decided the grade.
"""

from __future__ import annotations

import torch
from torch import Tensor

from students.losses.averaging import mean_over


def attention_adjustment_loss(
    attention: Tensor, used: Tensor, attention_mask: Tensor, present: Tensor, *, factor: float
) -> Tensor:
    """Return the loss, a scalar >= 0 in nats.

    Attention [B, L]; `used` [B, L] bool, true at evidence; mask [B, L], 0 at padding; `present` [B] bool, true for
    texts with evidence. `factor` >= 1.
    """
    real = attention_mask.to(attention.dtype)
    factors = real * (1.0 + (factor - 1.0) * used.to(attention.dtype))
    wanted = factors / factors.sum(dim=-1, keepdim=True).clamp(min=1.0)
    log_attention = torch.log(attention.clamp(min=1e-9))
    divergence = (torch.xlogy(wanted, wanted) - wanted * log_attention).sum(dim=-1)
    return mean_over(divergence, present)
