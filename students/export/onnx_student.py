"""A version run by onnxruntime in this process: what Triton's answers are compared with, and bulk encoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from students.batching import Floats, run_by_length
from students.export.graph_session import GraphSession
from students.scores import grade_distribution, relevance_score, towers_score
from students.tokenisation import Inputs, StudentTokeniser
from students.version_folder import GRAPHS, TOKENIZER, Manifest, Precision, graph_file, read_manifest

PAIR_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class OnnxStudent:
    """The graphs of one precision. `manifest` says what they are."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        precision: Precision,
        threads: int = 0,
    ) -> None:
        """Open the graphs in `folder`; `threads` 0 means one a core. Raises what onnxruntime raises."""
        self.manifest = manifest
        self.tokeniser = StudentTokeniser(Tokenizer.from_file(str(folder / TOKENIZER)), manifest.limits)
        self._sessions = {
            name: GraphSession(folder / graph_file(stem, precision), threads=threads)
            for name, stem in GRAPHS[manifest.kind].items()
        }

    @classmethod
    def open(cls, folder: Path, *, precision: Precision, threads: int = 0) -> OnnxStudent:
        """Open a version. Raises VersionError."""
        return cls(folder, read_manifest(folder), precision=precision, threads=threads)

    def scores(self, queries: Sequence[str], items: Sequence[str]) -> Floats:
        """Return the relevance scores [n] in [0, 1] of n pairs of cleaned texts."""
        manifest = self.manifest
        if manifest.kind == "interaction":
            logits = run_by_length(
                self.tokeniser, self.tokeniser.pairs(queries, items), self.runner("interaction", PAIR_INPUTS)
            )
            grades = grade_distribution(np.stack([each[0] for each in logits]))
            return relevance_score(grades, manifest.gains)
        found = [
            towers_score(
                query, item[None], slope=manifest.slope, offset=manifest.offset, gains=manifest.gains
            )[0]
            for query, item in zip(self.query_vectors(queries), self.item_vectors(items), strict=True)
        ]
        return np.array(found, dtype=np.float32)

    def query_vectors(self, queries: Sequence[str]) -> Floats:
        """Return the vectors [n, D] of cleaned queries."""
        inputs = self.tokeniser.queries(queries)
        made = run_by_length(self.tokeniser, inputs, self.runner("query_encoder", PAIR_INPUTS[:2]))
        return np.stack([vector for (vector,) in made])

    def item_vectors(self, items: Sequence[str]) -> Floats:
        """Return the vectors [n, D] of cleaned item texts."""
        inputs = self.tokeniser.items(items)
        made = run_by_length(self.tokeniser, inputs, self.runner("item_encoder", PAIR_INPUTS[:2]))
        return np.stack([vector for (vector,) in made])

    def runner(self, graph: str, names: Sequence[str]) -> Callable[[Inputs], Sequence[Floats]]:
        """Return what runs a padded batch through a graph, its outputs in the graph's order."""
        session = self._sessions[graph]
        return lambda inputs: session.run({name: getattr(inputs, name) for name in names})
