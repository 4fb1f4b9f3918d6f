"""Training on several devices or processes, as `torchrun` starts them; alone without it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed


@dataclass(frozen=True, slots=True)
class Processes:
    """This process's number, how many there are, and where it computes."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Tell whether this is the one that writes and speaks."""
        return self.rank == 0


@contextlib.contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Yield this process among those that `torchrun` started, their group open; one alone if it started none.

    `device` is cpu or cuda; under torchrun each process takes the GPU of its local rank.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    where = torch.device("cuda", local) if device == "cuda" else torch.device("cpu")
    if count == 1:
        yield Processes(0, 1, where)
        return
    torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Processes(rank, count, where)
    finally:
        torch.distributed.destroy_process_group()
