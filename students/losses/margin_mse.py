"""Margin-MSE between pairs of one query (Hofstätter et al. 2020, arXiv 2010.02666, equation 4).

    loss = mean over i < j of the same query of  ((s_i - s_j) - (t_i - t_j))^2

s [B] the student's relevance scores, t [B] the teacher's, both in [0, 1]; the paper takes unbounded scores of a
relevant and an irrelevant passage, here all pairs of a query that meet in a batch are compared. It teaches the order
within a query, whatever level the scores are at.
"""

from __future__ import annotations

import torch
from torch import Tensor

from students.losses.averaging import mean_over


def margin_mse_loss(scores: Tensor, teacher: Tensor, queries: Tensor, present: Tensor) -> Tensor:
    """Return the loss, a scalar in [0, 4]: scores [B], `queries` [B] int64 names each pair's query, present [B]."""
    first, second = torch.triu_indices(len(scores), len(scores), offset=1, device=scores.device)
    comparable = (queries[first] == queries[second]) & present[first] & present[second]
    error = (scores[first] - scores[second]) - (teacher[first] - teacher[second])
    return mean_over(error.square(), comparable)
