"""ITEM_TEXT [B, n] to VECTORS [B, n, D], each of length 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from students.batching import run_by_length
from triton_models.shared.model import Loaded, answered, response, tensor
from triton_models.shared.texts import items_of

INPUTS = ("input_ids", "attention_mask")


class TritonPythonModel:
    """One version of the model, as Triton's Python backend calls it."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the version. Raises VersionError, which fails the load."""
        self._loaded = Loaded(args, graph="item_encoder")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer a batch of requests."""
        return answered(
            requests,
            lambda request: items_of(tensor(request, "ITEM_TEXT"), self._loaded.limits),
            lambda read: [self._encode(items) for items in read],
        )

    def _encode(self, items: list[list[str]]) -> Any:
        loaded = self._loaded
        inputs = loaded.tokeniser.items([text for row in items for text in row])
        vectors = run_by_length(loaded.tokeniser, inputs, lambda batch: loaded.run(batch, ["vector"], INPUTS))
        stacked = np.stack([each for (each,) in vectors])
        return response(VECTORS=stacked.reshape(len(items), len(items[0]), -1))
