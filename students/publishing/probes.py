"""Whether a server scores a version as its export did: known pairs, expected scores, within a stated tolerance."""

from __future__ import annotations

import numpy as np

from ops.serving.connection import Control, texts
from students.version_folder import Manifest, Precision


class ParityError(RuntimeError):
    """A served version does not score as it should. The message holds the worst pair."""


def served_scores(control: Control, manifest: Manifest, pairs: list[tuple[str, str]]) -> list[float]:
    """Return the scores of pairs by the served version, text in, score out. Raises TritonError."""
    version = manifest.version
    found = []
    for query, item in pairs:
        if manifest.kind == "interaction":
            inputs = {"QUERY": texts([[query]]), "ITEM_TEXT": texts([[item]])}
            scores = control.infer("relevance", version, inputs)["SCORE"]
        else:
            vectors = control.infer("item_tower", version, {"ITEM_TEXT": texts([[item]])})["VECTORS"]
            scores = control.infer(
                "relevance_towers",
                version,
                {
                    "QUERY": texts([[query]]),
                    "ITEM_VECTORS": vectors,
                    "VECTOR_VERSION": np.array([[version]], dtype=np.int64),
                },
            )["SCORE"]
        found.append(float(scores[0, 0]))
    return found


def check_parity(control: Control, manifest: Manifest, *, precision: Precision, tolerance: float) -> float:
    """Return the largest difference of a served score from the exported one over the version's probes.

    Raises ParityError beyond `tolerance`, TritonError if the version does not answer.
    """
    scores = served_scores(control, manifest, [(each.query, each.item_text) for each in manifest.probes])
    worst = 0.0
    for probe, score in zip(manifest.probes, scores, strict=True):
        difference = abs(score - probe.scores[precision])
        if not difference <= tolerance:
            raise ParityError(
                f"{manifest.name} scores {score:.4f} for {probe.query!r} and {probe.item_text[:60]!r}, expected "
                f"{probe.scores[precision]:.4f} (within {tolerance:g})"
            )
        worst = max(worst, difference)
    return worst
