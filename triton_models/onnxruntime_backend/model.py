"""Triton's python-based backend under the name `onnxruntime`: runs an unmodified ONNX model with onnxruntime.

It reads the keys of the native backend that the project's configurations use, so one model repository serves both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

#: The native backend's threads between nodes; the graphs are chains.
INTER_OP_THREADS = 1


class TritonPythonModel:
    """One version of an ONNX model, as Triton's Python backend calls it."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the graph. Raises what onnxruntime raises, which fails the load."""
        config = json.loads(args["model_config"])
        if args["model_instance_kind"] != "CPU":
            raise ValueError(
                f"expected KIND_CPU, got {args['model_instance_kind']}: GPUs need Triton's native backend"
            )
        name = config["default_model_filename"] or "model.onnx"
        options = onnxruntime.SessionOptions()
        threads = config["parameters"].get("intra_op_thread_count", {}).get("string_value", "0")
        options.intra_op_num_threads = int(threads)
        options.inter_op_num_threads = INTER_OP_THREADS
        # Threads that spin while they wait take the cores from whoever else is on them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            Path(args["model_repository"]) / args["model_version"] / name,
            options,
            providers=["CPUExecutionProvider"],
        )
        self._inputs = [each["name"] for each in config["input"]]
        self._outputs = [each["name"] for each in config["output"]]

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Run the requests that the dynamic batcher put together as one batch, since their shapes are equal."""
        feeds = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
            for request in requests
        ]
        joined = {name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs}
        outputs = self._session.run(self._outputs, joined)
        ends = np.cumsum([len(feed[self._inputs[0]]) for feed in feeds])[:-1]
        parts = [np.split(output, ends) for output in outputs]
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, part[row]) for name, part in zip(self._outputs, parts, strict=True)]
            )
            for row in range(len(requests))
        ]
