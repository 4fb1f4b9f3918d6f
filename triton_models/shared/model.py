"""What every Python model does alike: reads its version, calls graphs of its own version, answers or refuses.

Runs inside Triton's Python backend, which provides `triton_python_backend_utils`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

from students.tokenisation import Inputs, StudentTokeniser
from students.version_folder import TOKENIZER, read_manifest
from triton_models.shared.texts import RefusedError, TextLimits

Answer = TypeVar("Answer")


class GraphError(RuntimeError):
    """A graph could not be run."""


class Loaded:
    """A version as a Python model serves it: `manifest`, `tokeniser`, `limits` and the model's `config`."""

    def __init__(self, args: Mapping[str, str], *, graph: str) -> None:
        """Read the version beside the model's file; `graph` is the model that runs it, under the same number.

        Raises VersionError. The graph is not asked for here: Triton may load all models at once, in any order.
        """
        folder = Path(args["model_repository"]) / args["model_version"]
        self.config: dict[str, Any] = json.loads(args["model_config"])
        self.manifest = read_manifest(folder)
        self.tokeniser = StudentTokeniser(Tokenizer.from_file(str(folder / TOKENIZER)), self.manifest.limits)
        self.limits = TextLimits.of(self.config)
        self._graph = graph

    def run(self, inputs: Inputs, outputs: Sequence[str], names: Sequence[str]) -> list[Any]:
        """Return `outputs` of the graph for the inputs `names`. Raises GraphError."""
        request = pb_utils.InferenceRequest(
            model_name=self._graph,
            model_version=self.manifest.version,
            requested_output_names=list(outputs),
            inputs=[pb_utils.Tensor(name, getattr(inputs, name)) for name in names],
        )
        response = request.exec()
        if response.has_error():
            raise GraphError(f"{self._graph}: {response.error().message()}")
        return [pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in outputs]


def tensor(request: Any, name: str) -> Any:
    """Return an input of a request as an array."""
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()


def response(**outputs: Any) -> Any:
    """Return the response with these arrays."""
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in outputs.items()])


def texts(values: Sequence[Sequence[str]]) -> Any:
    """Return texts as an array of BYTES."""
    return np.array([[value.encode() for value in row] for row in values], dtype=np.object_)


def answered(
    requests: Sequence[Any],
    read: Callable[[Any], Answer],
    answer: Callable[[list[Answer]], Sequence[Any]],
) -> list[Any]:
    """Return one response a request: those that `read` refuses get INVALID_ARGUMENT, the others what `answer` makes
    of all of them at once, or UNAVAILABLE if their graph fails."""
    responses: list[Any] = [None] * len(requests)
    read_well: list[tuple[int, Answer]] = []
    for place, request in enumerate(requests):
        try:
            read_well.append((place, read(request)))
        except RefusedError as error:
            responses[place] = _error(str(error), pb_utils.TritonError.INVALID_ARG)
    try:
        made = answer([each for _, each in read_well]) if read_well else []
    except GraphError as error:
        made = [_error(str(error), pb_utils.TritonError.UNAVAILABLE) for _ in read_well]
    for (place, _), each in zip(read_well, made, strict=True):
        responses[place] = each
    return responses


def _error(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
