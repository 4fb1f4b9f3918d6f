"""Scores a query's candidates: towers over all, the interaction student over the best, before a deadline.

The fallback, for each item: the last towers score that was seen of the pair, then the lexical score. It
answers when Triton is away, has no version for the arm, or does not answer in time; what it answers is marked.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ops.scoring.calls import Calls
from ops.scoring.routes import Routes
from ops.scoring.vectors import KnownVectors
from ops.serving.connection import TritonError, texts
from ops.settings import Settings
from students.batching import Floats
from students.version_folder import student_version
from triton_models.shared.recent import Recent

Source = Literal["cascade", "interaction", "towers", "last_known", "lexical"]


class TooManyCandidatesError(ValueError):
    """More candidates than a query may have. The message says how many."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item to score, its text as `streams.item_text.item_text` makes it."""

    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores in [0, 1], in the candidates' order. `source` says what made them, `fallback` whether a student
    had to be done without, `reason` why. `student_version` names the students that took part, or the fallback."""

    scores: list[float]
    source: Source
    student_version: str
    fallback: bool
    reason: str


class ScoringClient:
    """A client for one event loop. `counters` counts queries by source and fallbacks, and what `Calls` counts."""

    def __init__(
        self,
        settings: Settings,
        *,
        routes: Callable[[], Routes],
        vectors: Callable[[int, Sequence[str]], KnownVectors],
        lexical: Callable[[str, Sequence[Candidate]], Sequence[float]],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`routes` and `vectors` are asked once a query, and so is `lexical` where it is needed: it must not fail.

        Raises NotRunningError without an address of Triton.
        """
        self._calls = Calls(settings, clock_s=clock_s)
        self._scoring = settings.scoring
        self._routes = routes
        self._vectors = vectors
        self._lexical = lexical
        self._clock_s = clock_s
        self._known = Recent[float](size=settings.scoring.kept_scores)

    @property
    def counters(self) -> Counter[str]:
        """Return what was counted since the start."""
        return self._calls.counters

    async def close(self) -> None:
        """Close the connection."""
        await self._calls.close()

    async def score(
        self,
        query: str,
        candidates: Sequence[Candidate],
        *,
        treatment: bool = False,
        deadline_ms: float | None = None,
    ) -> Scored:
        """Return the candidates' scores under the versions of an arm, at the deadline at the latest.

        Raises TooManyCandidatesError; nothing else goes wrong, the fallback answers.
        """
        if len(candidates) > self._scoring.max_candidates:
            raise TooManyCandidatesError(
                f"expected at most {self._scoring.max_candidates} candidates (scoring.max_candidates), "
                f"got {len(candidates)}"
            )
        until_s = self._clock_s() + (deadline_ms or self._scoring.deadline_ms) / 1000
        # Taken once: a promotion in between changes the next query, not this one.
        interaction, representation = self._routes().versions(treatment=treatment)
        scored = await self._score(query, candidates, interaction, representation, until_s)
        self.counters["queries"] += 1
        self.counters[f"by_{scored.source}"] += 1
        self.counters["fallbacks"] += scored.fallback
        return scored

    async def _score(
        self,
        query: str,
        candidates: Sequence[Candidate],
        interaction: int,
        representation: int,
        until_s: float,
    ) -> Scored:
        if not candidates:
            return Scored([], "interaction", _named(interaction, 0), False, "")
        first: Floats | None = None
        source: Source = "towers"
        reason, missing, used = "", False, 0
        if len(candidates) > self._scoring.interaction_candidates or not interaction:
            if representation:
                try:
                    first = await self._towers(query, candidates, representation, until_s)
                except TritonError as error:
                    reason = str(error)
            if first is None:
                source, first = self._without_towers(query, candidates)
                missing = True
            else:
                used = representation
        if interaction:
            places = range(len(candidates)) if first is None else np.argsort(-first, kind="stable").tolist()
            best = list(places[: self._scoring.interaction_candidates])
            try:
                scores = await self._interaction(
                    query, [candidates[place] for place in best], interaction, until_s
                )
                by: Source = "cascade" if used else "interaction"
                whole = cascaded(first, best, scores).tolist()
                return Scored(whole, by, _named(interaction, used), missing, reason)
            except TritonError as error:
                reason, missing = reason or str(error), True
        if first is None:
            source, first = self._without_towers(query, candidates)
        if not interaction and not representation:
            reason = "no version serves this arm"
        version = _named(0, used) or source.replace("_", "-")
        return Scored(first.tolist(), source, version, missing, reason)

    async def _towers(
        self, query: str, candidates: Sequence[Candidate], version: int, until_s: float
    ) -> Floats | None:
        found = self._vectors(version, [each.item_id for each in candidates])
        if found.version != version:
            raise AssertionError(f"vectors of version {found.version} for a query of version {version}")
        self.counters["without_vector"] += int((~found.known).sum())
        if not found.known.any():
            return None
        scores = await self._calls.infer(
            "relevance_towers",
            version,
            {
                "QUERY": texts([[query]]),
                "ITEM_VECTORS": found.matrix[None],
                "VECTOR_VERSION": np.array([[version]], dtype=np.int64),
            },
            output="SCORE",
            until_s=until_s,
        )
        # Items too new to have a vector go to the interaction student first: nothing else can tell.
        whole = np.ones(len(candidates), dtype=np.float32)
        whole[found.known] = scores[0]
        for place in np.flatnonzero(found.known).tolist():
            self._known.put((query, candidates[place].item_id), float(whole[place]))
        return whole

    async def _interaction(
        self, query: str, candidates: Sequence[Candidate], version: int, until_s: float
    ) -> Floats:
        size = self._scoring.batch_candidates
        parts = await asyncio.gather(
            *(
                self._calls.infer(
                    "relevance",
                    version,
                    {
                        "QUERY": texts([[query]]),
                        "ITEM_TEXT": texts([[each.text for each in candidates[start : start + size]]]),
                    },
                    output="SCORE",
                    until_s=until_s,
                )
                for start in range(0, len(candidates), size)
            )
        )
        scores: Floats = np.concatenate([part[0] for part in parts])
        return scores

    def _without_towers(self, query: str, candidates: Sequence[Candidate]) -> tuple[Source, Floats]:
        known = [self._known.get((query, each.item_id)) for each in candidates]
        lexical = self._lexical(query, candidates) if None in known else [0.0] * len(known)
        scores = [other if seen is None else seen for seen, other in zip(known, lexical, strict=True)]
        source: Source = "lexical" if all(seen is None for seen in known) else "last_known"
        return source, np.array(scores, dtype=np.float32)


def cascaded(first: Floats | None, best: Sequence[int], scores: Floats) -> Floats:
    """Return the scores of the best by the interaction student; the others keep theirs, but none is above these."""
    if first is None:
        return scores
    whole: Floats = np.minimum(first, scores.min())
    whole[list(best)] = scores
    return whole


def _named(interaction: int, representation: int) -> str:
    kinds = (("interaction", interaction), ("representation", representation))
    return "+".join(student_version(kind, version) for kind, version in kinds if version)
