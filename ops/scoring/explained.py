"""One pair explained by the served interaction student, for people who ask from a terminal."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from ops.scoring.routes import routes_at_hand
from ops.serving.connection import Control, TritonError, texts
from ops.settings import Settings
from students.publishing.ledger import LedgerError
from students.publishing.repository import root_of, versions_of
from students.version_folder import MANIFEST, VersionError, path_of, read_manifest, student_version


class ExplainError(RuntimeError):
    """The pair cannot be explained. The message says what to do."""


def explain(
    settings: Settings, query: str, item: str, *, version: int | None = None, within_s: float | None = None
) -> dict[str, Any]:
    """Return `score`, `grades` by label, `spans` (`triton_models.shared.spans.Span`) and `student_version`.

    `query` and `item` are cleaned, so that the spans are of these texts. `version` None is the champion, `within_s`
    None the settings' time to load. Raises ExplainError, NotRunningError.
    """
    try:
        chosen = version or routes_at_hand(settings).interaction.champion
    except LedgerError as error:
        raise ExplainError(str(error)) from error
    if not chosen:
        raise ExplainError(
            f"no interaction student is published in {root_of(settings)}: `relevance students publish` does it,"
            " or name a version that Triton serves with --version"
        )
    with contextlib.closing(Control(settings, timeout_s=within_s)) as control:
        try:
            found = control.infer(
                "relevance_explained", chosen, {"QUERY": texts([[query]]), "ITEM_TEXT": texts([[item]])}
            )
        except TritonError as error:
            raise ExplainError(str(error)) from error
    shares = [round(float(share), 6) for share in found["GRADES"][0, 0]]
    return {
        "student_version": student_version("interaction", chosen),
        "score": round(float(found["SCORE"][0, 0]), 6),
        "grades": dict(zip(_labels(settings, chosen, len(shares)), shares, strict=True)),
        "spans": json.loads(found["SPANS"][0, 0]),
    }


def _labels(settings: Settings, version: int, count: int) -> tuple[str, ...]:
    """Return the grades' labels, from wherever the version's description lies; numbers where it lies nowhere."""
    served = root_of(settings) / "models" / "relevance_explained"
    for folder in (path_of(served, version), path_of(versions_of(settings), version)):
        if (folder / MANIFEST).exists():
            try:
                return read_manifest(folder).labels
            except VersionError as error:
                raise ExplainError(str(error)) from error
    return tuple(f"grade {number}" for number in range(1, count + 1))
