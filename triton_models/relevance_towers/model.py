"""QUERY [B, 1], ITEM_VECTORS [B, n, D] and VECTOR_VERSION [B, 1] to SCORE [B, n], in [0, 1].

Refuses vectors of another version than its own. Vectors of queries that came lately are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from students.batching import Floats, run_by_length
from students.scores import towers_score
from triton_models.shared.model import Loaded, answered, response, tensor
from triton_models.shared.recent import Recent
from triton_models.shared.texts import RefusedError, parameter, queries_of

Request = tuple[list[str], Floats]
INPUTS = ("input_ids", "attention_mask")


class TritonPythonModel:
    """One version of the model, as Triton's Python backend calls it."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the version. Raises VersionError, which fails the load."""
        self._loaded = Loaded(args, graph="query_encoder")
        self._recent = Recent[Floats](size=int(parameter(self._loaded.config, "cached_queries")))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer a batch of requests, their queries encoded together."""
        return answered(requests, self._read, self._answer)

    def _read(self, request: Any) -> Request:
        loaded = self._loaded
        vectors: Floats = tensor(request, "ITEM_VECTORS")
        loaded.limits.check_items(vectors.shape[1])
        made_by = set(tensor(request, "VECTOR_VERSION").ravel().tolist())
        if made_by != {loaded.manifest.version}:
            raise RefusedError(
                f"expected item vectors of version {loaded.manifest.version}, which answers, got {sorted(made_by)}"
            )
        if not np.isfinite(vectors).all():
            raise RefusedError("expected finite item vectors, got infinite ones or NaN")
        return queries_of(tensor(request, "QUERY"), loaded.limits), vectors

    def _answer(self, requests: list[Request]) -> list[Any]:
        manifest = self._loaded.manifest
        vectors = self._vectors(list(dict.fromkeys(query for queries, _ in requests for query in queries)))
        return [
            response(
                SCORE=np.stack(
                    [
                        towers_score(
                            vectors[query],
                            row,
                            slope=manifest.slope,
                            offset=manifest.offset,
                            gains=manifest.gains,
                        )
                        for query, row in zip(queries, items, strict=True)
                    ]
                )
            )
            for queries, items in requests
        ]

    def _vectors(self, queries: Sequence[str]) -> dict[str, Floats]:
        loaded = self._loaded
        found = {query: known for query in queries if (known := self._recent.get(query)) is not None}
        unknown = [query for query in queries if query not in found]
        inputs = loaded.tokeniser.queries(unknown)
        made = run_by_length(loaded.tokeniser, inputs, lambda batch: loaded.run(batch, ["vector"], INPUTS))
        for query, (vector,) in zip(unknown, made, strict=True):
            found[query] = vector
            self._recent.put(query, vector)
        return found
