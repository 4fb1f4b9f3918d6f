"""QUERY [B, 1] and ITEM_TEXT [B, n] to SCORE [B, n], in [0, 1]. Pairs scored lately are not scored again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from students.batching import run_by_length
from students.scores import grade_distribution, relevance_score
from triton_models.shared.model import Loaded, answered, response, tensor
from triton_models.shared.recent import Recent
from triton_models.shared.texts import items_of, parameter, queries_of

Request = tuple[list[str], list[list[str]]]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class TritonPythonModel:
    """One version of the model, as Triton's Python backend calls it."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the version. Raises VersionError, which fails the load."""
        self._loaded = Loaded(args, graph="interaction")
        self._recent = Recent[float](size=int(parameter(self._loaded.config, "cached_pairs")))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer a batch of requests, their pairs scored together."""
        return answered(requests, self._read, self._answer)

    def _read(self, request: Any) -> Request:
        limits = self._loaded.limits
        return queries_of(tensor(request, "QUERY"), limits), items_of(tensor(request, "ITEM_TEXT"), limits)

    def _answer(self, requests: list[Request]) -> list[Any]:
        pairs = [
            (query, item)
            for queries, items in requests
            for query, row in zip(queries, items, strict=True)
            for item in row
        ]
        scores: dict[tuple[str, str], float] = {}
        for pair in pairs:
            if (known := self._recent.get(pair)) is not None:
                scores[pair] = known
        unknown = [pair for pair in dict.fromkeys(pairs) if pair not in scores]
        for pair, score in zip(unknown, self._score(unknown), strict=True):
            scores[pair] = score
            self._recent.put(pair, score)
        return [
            response(
                SCORE=np.array(
                    [
                        [scores[query, item] for item in row]
                        for query, row in zip(queries, items, strict=True)
                    ],
                    dtype=np.float32,
                )
            )
            for queries, items in requests
        ]

    def _score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        loaded = self._loaded
        inputs = loaded.tokeniser.pairs([query for query, _ in pairs], [item for _, item in pairs])
        logits = run_by_length(
            loaded.tokeniser, inputs, lambda batch: loaded.run(batch, ["grade_logits"], INPUTS)
        )
        if not logits:
            return []
        grades = grade_distribution(np.stack([each for (each,) in logits]))
        found: list[float] = relevance_score(grades, loaded.manifest.gains).tolist()
        return found
