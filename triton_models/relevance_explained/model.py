"""QUERY [B, 1] and ITEM_TEXT [B, n] to SCORE [B, n], GRADES [B, n, G] and SPANS [B, n].

SPANS holds a JSON array for each item (`triton_models.shared.spans.Span`); its intervals are of characters in the
query and item text as `streams.item_text` cleans them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from students.batching import run_by_length
from students.scores import grade_distribution, relevance_score
from triton_models.shared.model import Loaded, answered, response, tensor, texts
from triton_models.shared.spans import spans_of
from triton_models.shared.texts import items_of, queries_of

Request = tuple[list[str], list[list[str]]]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class TritonPythonModel:
    """One version of the model, as Triton's Python backend calls it."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the version. Raises VersionError, which fails the load."""
        self._loaded = Loaded(args, graph="interaction")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer a batch of requests."""
        return answered(requests, self._read, lambda read: [self._explain(*each) for each in read])

    def _read(self, request: Any) -> Request:
        limits = self._loaded.limits
        return queries_of(tensor(request, "QUERY"), limits), items_of(tensor(request, "ITEM_TEXT"), limits)

    def _explain(self, queries: list[str], items: list[list[str]]) -> Any:
        loaded, manifest = self._loaded, self._loaded.manifest
        shape = (len(queries), len(items[0]))
        asked = [query for query in queries for _ in range(shape[1])]
        inputs = loaded.tokeniser.pairs(asked, [item for row in items for item in row])
        outputs = run_by_length(
            loaded.tokeniser, inputs, lambda batch: loaded.run(batch, ["grade_logits", "tag_logits"], INPUTS)
        )
        grades = grade_distribution(np.stack([logits for logits, _ in outputs]))
        spans = [
            json.dumps(spans_of(tokens, grade_distribution(tags[: len(tokens)]), manifest.tags))
            for tokens, (_, tags) in zip(inputs, outputs, strict=True)
        ]
        return response(
            SCORE=relevance_score(grades, manifest.gains).reshape(shape),
            GRADES=grades.reshape(*shape, -1),
            SPANS=texts([spans[row * shape[1] : (row + 1) * shape[1]] for row in range(shape[0])]),
        )
