"""The state of a training run between two steps, written in one move: a kill leaves the old one or the new one.

The random generator is seeded anew at each step from seed, step and process, so no state of it need be kept, and a
resumed run draws the same dropout as an unbroken one.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from ops.files import write_atomically
from students.training.curves import Curve, decode, encode

#: What reading a damaged or foreign file raises.
DAMAGED = (
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    ValueError,
    msgspec.MsgspecError,
    pickle.UnpicklingError,
)


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What has a state: the model, torch's optimiser and learning-rate schedule."""

    model: nn.Module
    optimizer: Any
    schedule: Any


def write(path: Path, parts: Parts, *, step: int, curve: Curve) -> None:
    """Write the state after `step` optimiser steps."""
    held = io.BytesIO()
    torch.save(
        {
            "step": step,
            "model": parts.model.state_dict(),
            "optimizer": parts.optimizer.state_dict(),
            "schedule": parts.schedule.state_dict(),
            "curve": encode(curve),
        },
        held,
    )
    write_atomically(path, held.getvalue())


def restore(path: Path, parts: Parts, device: torch.device) -> tuple[int, Curve]:
    """Put the state into the parts; return the steps done and the curve so far, (0, empty) without a checkpoint.

    Raises CheckpointError for a file that is damaged or of another model.
    """
    if not path.exists():
        return 0, Curve()
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        parts.model.load_state_dict(state["model"])
        parts.optimizer.load_state_dict(state["optimizer"])
        parts.schedule.load_state_dict(state["schedule"])
        return int(state["step"]), decode(state["curve"])
    except DAMAGED as error:
        raise CheckpointError(
            f"{path}: expected the state of a training run, got something else ({error});"
            " delete the file to begin this run anew"
        ) from error
