"""QUERY [B, 1] to VECTOR [B, D] of length 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from students.batching import run_by_length
from triton_models.shared.model import Loaded, answered, response, tensor
from triton_models.shared.texts import queries_of

INPUTS = ("input_ids", "attention_mask")


class TritonPythonModel:
    """One version of the model, as Triton's Python backend calls it."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the version. Raises VersionError, which fails the load."""
        self._loaded = Loaded(args, graph="query_encoder")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer a batch of requests, their queries encoded together."""
        return answered(
            requests,
            lambda request: queries_of(tensor(request, "QUERY"), self._loaded.limits),
            self._answer,
        )

    def _answer(self, requests: list[list[str]]) -> list[Any]:
        loaded = self._loaded
        inputs = loaded.tokeniser.queries([query for queries in requests for query in queries])
        vectors = np.stack(
            [
                each
                for (each,) in run_by_length(
                    loaded.tokeniser, inputs, lambda batch: loaded.run(batch, ["vector"], INPUTS)
                )
            ]
        )
        ends = np.cumsum([len(queries) for queries in requests])[:-1]
        return [response(VECTOR=each) for each in np.split(vectors, ends)]
