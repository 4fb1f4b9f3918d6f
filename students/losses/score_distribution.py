"""Distillation of the grade distribution at a temperature (Hinton et al. 2015, arXiv 1503.02531, section 2).

    p' = p^(1/T) / sum p^(1/T),   q = softmax(z / T)
    loss = T^2 * mean over pairs of  sum_g p'_g (log p'_g - log q_g)

z [B, G] the student's grade logits, p [B, G] the teacher's distribution over the grades: its logits are known up to
a constant as log p, so p^(1/T) is what softening them gives. The gradient of the divergence shrinks as 1 / T^2; the
factor keeps the loss's weight the same at every temperature.
"""

from __future__ import annotations

import torch
from torch import Tensor

from students.losses.averaging import mean_over


def score_distribution_loss(
    grade_logits: Tensor, teacher: Tensor, present: Tensor, *, temperature: float
) -> Tensor:
    """Return the loss, a scalar >= 0 in nats: logits and probabilities [B, G], `present` [B] bool.

    Rows that are not present may hold anything finite; T > 0.
    """
    softened = teacher.pow(1.0 / temperature)
    softened = softened / softened.sum(dim=-1, keepdim=True).clamp(min=1e-12)
    log_student = torch.log_softmax(grade_logits / temperature, dim=-1)
    # xlogy is 0 at probability 0.
    divergence = (torch.xlogy(softened, softened) - softened * log_student).sum(dim=-1)
    return temperature**2 * mean_over(divergence, present)
