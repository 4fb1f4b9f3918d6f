"""The client for a synchronous ad engine: a `Scorer` (`ops.shop.scorers`) whose calls run on another thread."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from ops.scoring.client import Candidate, Scored, ScoringClient
from ops.settings import Settings
from ops.shop.items import Item
from ops.shop.scorers import LexicalScorer
from streams.item_text import item_text

#: Beyond the deadline, for the thread to hand over what the fallback made of it.
GRACE_S = 1.0

Result = TypeVar("Result")


class TritonScorer:
    """Scores with the students of one arm. `version` and `fell_back` speak of the last answer.

    One thread uses it at a time. What Triton cannot answer, the client's fallback does; so it does not raise.
    """

    def __init__(
        self, loop: ScoringLoop, *, treatment: bool, texts: Callable[[Item], str] | None = None
    ) -> None:
        """`texts` gives an item's text; by default it is made of the item as it is."""
        self._loop = loop
        self._treatment = treatment
        self._texts = texts or text_of
        self._last = Scored([], "lexical", "lexical", True, "nothing scored yet")

    @property
    def version(self) -> str:
        """Name what made the last answer."""
        return self._last.student_version

    @property
    def fell_back(self) -> bool:
        """Tell whether the last answer had to do without a student."""
        return self._last.fallback

    def score(self, query: str, items: Sequence[Item]) -> list[float]:
        """Return one score in [0, 1] per item, in order. Raises TooManyCandidatesError."""
        candidates = [Candidate(item.item_id, self._texts(item)) for item in items]
        self._last = self._loop.score(query, candidates, treatment=self._treatment)
        return self._last.scores


class ScoringLoop:
    """A client on an event loop in a daemon thread; the scorers of all arms share it. A context manager."""

    def __init__(self, settings: Settings, make: Callable[[], ScoringClient]) -> None:
        """`make` is called on the loop's thread. Raises what it raises."""
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scoring", daemon=True)
        self._thread.start()
        try:
            self._client = self._run(_made(make), timeout_s=None)
        except BaseException:
            self._end()
            raise

    @property
    def counters(self) -> Counter[str]:
        """Return what the client has counted."""
        return self._client.counters

    def score(self, query: str, candidates: Sequence[Candidate], *, treatment: bool) -> Scored:
        """Return the candidates' scores. Raises TooManyCandidatesError."""
        timeout_s = self._settings.scoring.deadline_ms / 1000 + GRACE_S
        return self._run(self._client.score(query, candidates, treatment=treatment), timeout_s=timeout_s)

    def __enter__(self) -> ScoringLoop:
        return self

    def __exit__(self, *details: object) -> None:
        self._run(self._client.close(), timeout_s=GRACE_S)
        self._end()

    def _run(self, work: Coroutine[Any, Any, Result], *, timeout_s: float | None) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def text_of(item: Item) -> str:
    """Return an item's text as teacher and students read it."""
    return item_text(title=item.title, brand=item.brand, category=item.category, attributes=item.attributes)


def lexical_of(
    scorer: LexicalScorer, items: Callable[[str], Item]
) -> Callable[[str, Sequence[Candidate]], list[float]]:
    """Return the lexical fallback over items found by their id."""
    return lambda query, candidates: scorer.score(query, [items(each.item_id) for each in candidates])


async def _made(make: Callable[[], ScoringClient]) -> ScoringClient:
    return make()
