"""Inputs of many lengths through a graph in few executions: sorted by length, so that little is padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from students.tokenisation import Inputs, StudentTokeniser, Tokens

Floats = npt.NDArray[np.float32]
#: Inputs of one execution at most, as in the graphs' config.pbtxt.
MAX_BATCH = 64
#: A batch ends early where its shortest input would be padded by more than this share.
MAX_PADDING = 0.25


def batches(
    lengths: Sequence[int], *, max_batch: int = MAX_BATCH, max_padding: float = MAX_PADDING
) -> Iterator[list[int]]:
    """Yield the places of inputs that go together, longest first; every place comes once.

    >>> list(batches([4, 16, 15, 4], max_padding=0.25))
    [[1, 2], [0, 3]]
    """
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    current: list[int] = []
    for place in order:
        longest = lengths[current[0]] if current else 0
        if current and (len(current) == max_batch or lengths[place] < longest * (1 - max_padding)):
            yield current
            current = []
        current.append(place)
    if current:
        yield current


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
