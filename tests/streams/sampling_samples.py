"""Records that the sampler's tests feed it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ops.settings import Sampling
from streams.records import CatalogueItem, EngagementWindow, ItemEngagement, Judgement, Pair
from streams.sampler import Sampler
from streams.sampling_memory import SamplingMemory

HOUR_MS = 3_600_000
START_MS = 1_700_000_000_000


def window(
    query: str, *scores: tuple[str, float], searches: int = 1, at_ms: int = START_MS
) -> EngagementWindow:
    """Return a window in which each item was shown twice with its score."""
    return EngagementWindow(
        query=query,
        window_start_s=at_ms // 1000 // 3600 * 3600,
        window_s=3600,
        updated_ms=at_ms,
        searches=searches,
        items=[ItemEngagement(item, 2, 0, 0, 0.1, 2, 2 * score) for item, score in scores],
    )


def item(item_id: str, title: str = "", *, updated_ms: int = START_MS) -> CatalogueItem:
    """Return an offer."""
    return CatalogueItem(item_id=item_id, title=title or f"Title of {item_id}", updated_ms=updated_ms)


def judgement(pair: Pair, *, teacher_id: str = "t1", tokens: int = 500, at_ms: int = START_MS) -> Judgement:
    """Return a judgement of a pair."""
    return Judgement(
        query=pair.query,
        item_id=pair.item_id,
        item_text=pair.item_text,
        content_hash=pair.content_hash,
        teacher_id=teacher_id,
        prompt_hash="p1",
        grades={"E": 1.0},
        grade="E",
        relevance_score=1.0,
        verdicts=[],
        unlocated=0,
        chain_of_thought="grade: E",
        latency_ms=1.0,
        prompt_tokens=tokens - 50,
        cached_tokens=0,
        completion_tokens=50,
        judged_ms=at_ms,
    )


@contextmanager
def sampling(folder: Path, *, now_ms: int = START_MS, **settings: Any) -> Iterator[Sampler]:
    """Yield a sampler on the memory in a folder; opened again it goes on where it was."""
    memory = SamplingMemory(folder / "sampling.sqlite3")
    try:
        yield Sampler(Sampling.model_validate(settings), memory, now_ms=now_ms)
    finally:
        memory.close()
