"""A graph opened with onnxruntime on the CPU, a large batch cut into one part a thread.

Each part is run by one thread: that is faster than all threads in step through each operator of the whole batch, for
int8 by a fifth to two fifths. One input alone has one thread, which int8 does not notice and fp32 does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

#: Of a part; with fewer, cutting gains nothing.
LEAST_ROWS = 2


class GraphSession:
    """A graph. `inputs` and `outputs` are the names of its own."""

    def __init__(self, path: Path, *, threads: int) -> None:
        """Open it; `threads` 0 means one a core. Raises what onnxruntime raises."""
        self._threads = threads or len(os.sched_getaffinity(0))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._others = ThreadPoolExecutor(max(1, self._threads - 1))
        self.inputs = [each.name for each in self._session.get_inputs()]
        self.outputs = [each.name for each in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None) -> list[Any]:
        """Return the arrays of `outputs`, by default all, for arrays of one batch. Raises what onnxruntime raises."""
        names = self.outputs if outputs is None else list(outputs)
        rows = len(inputs[self.inputs[0]])
        count = min(self._threads, rows // LEAST_ROWS)
        if count < 2:
            found: list[Any] = self._session.run(names, dict(inputs))
            return found
        cut = {name: np.array_split(values, count) for name, values in inputs.items()}
        feeds = [{name: values[place] for name, values in cut.items()} for place in range(count)]
        waiting = [self._others.submit(self._session.run, names, feed) for feed in feeds[1:]]
        parts = [self._session.run(names, feeds[0]), *(each.result() for each in waiting)]
        return [np.concatenate(output) for output in zip(*parts, strict=True)]

    def close(self) -> None:
        """End the threads."""
        self._others.shutdown()
