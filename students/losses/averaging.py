"""The mean over the rows that have a target."""

from __future__ import annotations

from torch import Tensor


def mean_over(values: Tensor, present: Tensor) -> Tensor:
    """Return the mean of `values` [N] where `present` [N], bool; 0, still part of the graph, where none is.

    Every process of a parallel run must reach every weight, hence no constant.
    """
    kept = values * present.to(values.dtype)
    return kept.sum() / present.sum().clamp(min=1)
