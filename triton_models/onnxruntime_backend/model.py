"""Triton's python-based backend under the name `onnxruntime`: runs an unmodified ONNX model with onnxruntime.

It reads the keys of the native backend that the project's configurations use, so one model repository serves both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from students.export.graph_session import GraphSession


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
        threads = config["parameters"].get("intra_op_thread_count", {}).get("string_value", "0")
        self._session = GraphSession(
            Path(args["model_repository"]) / args["model_version"] / name, threads=int(threads)
        )
        self._inputs = [each["name"] for each in config["input"]]
        self._outputs = [each["name"] for each in config["output"]]

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Run the requests that the dynamic batcher put together as one batch, since their shapes are equal."""
        feeds = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
            for request in requests
        ]
        wanted = [set(request.requested_output_names()) for request in requests]
        names = [name for name in self._outputs if any(name in each for each in wanted)]
        joined = {name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs}
        ends = np.cumsum([len(feed[self._inputs[0]]) for feed in feeds])[:-1]
        parts = {
            name: np.split(output, ends)
            for name, output in zip(names, self._session.run(joined, names), strict=True)
        }
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, parts[name][row]) for name in names if name in wanted[row]]
            )
            for row in range(len(requests))
        ]

    def finalize(self) -> None:
        """End its threads."""
        self._session.close()
