"""Inputs of many lengths through a graph in few executions: sorted by length, so that little is padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from students.tokenisation import Inputs, StudentTokeniser, Tokens

Floats = npt.NDArray[np.float32]
#: Inputs of one execution at most, as in the graphs' config.pbtxt.
MAX_BATCH = 64
#: What an execution costs beside its tokens, in tokens: a batch ends early where that saves more padding.
EXECUTION_TOKENS = 256


def batches(
    lengths: Sequence[int], *, max_batch: int = MAX_BATCH, execution_tokens: int = EXECUTION_TOKENS
) -> Iterator[list[int]]:
    """Yield the places of inputs that go together, longest first; every place comes once.

    >>> list(batches([4, 16, 15, 4], execution_tokens=20))
    [[1, 2], [0, 3]]
    >>> list(batches([4, 16, 15, 4], execution_tokens=30))
    [[1, 2, 0, 3]]
    """
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    while order:
        taken = order[:max_batch]
        while cut := _cut([lengths[place] for place in taken], execution_tokens):
            taken = taken[:cut]
        yield taken
        order = order[len(taken) :]


def _cut(falling: Sequence[int], execution_tokens: int) -> int:
    """Return where a batch is cut best, 0 where no cut pays: what comes after it is padded to its own length."""
    saved = [(falling[0] - length) * (len(falling) - at) for at, length in enumerate(falling)]
    best = max(range(len(falling)), key=saved.__getitem__)
    return best if saved[best] > execution_tokens else 0


def run_by_length(
    tokeniser: StudentTokeniser, inputs: Sequence[Tokens], run: Callable[[Inputs], Sequence[Floats]]
) -> list[tuple[Floats, ...]]:
    """Return what `run` gives for each input, in order: one array a graph's output, without the batch dimension."""
    answers: list[tuple[Floats, ...]] = [()] * len(inputs)
    for places in batches([len(each) for each in inputs]):
        outputs = run(tokeniser.padded([inputs[place] for place in places]))
        for row, place in enumerate(places):
            answers[place] = tuple(output[row] for output in outputs)
    return answers
