"""The experiment's arms scored by the published students through Triton: champions for control, challengers for
treatment, as the topic `relevance.students` says at the moment."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from ops.scoring.client import ScoringClient
from ops.scoring.following import RouteFollower
from ops.scoring.scorer import ScoringLoop, TritonScorer, lexical_of, text_of
from ops.scoring.vectors import VectorTables
from ops.settings import Settings
from ops.shop.items import Item
from ops.shop.scorers import LexicalScorer
from students.publishing.repository import versions_of


class StudentArms:
    """The scorers `control` and `treatment`, which share a client. A context manager."""

    def __init__(
        self, settings: Settings, bootstrap: str, *, items: Mapping[str, Item], lexical: LexicalScorer
    ) -> None:
        """`items` are those offered now. Raises NotRunningError without Triton's address, KafkaError."""
        self._opened = ExitStack()
        tables = VectorTables(versions_of(settings))
        with self._opened:
            routes = self._opened.enter_context(RouteFollower(settings, bootstrap, prepare=tables.prepare))

            def make() -> ScoringClient:
                return ScoringClient(
                    settings,
                    routes=routes,
                    vectors=tables,
                    lexical=lexical_of(lexical, items.__getitem__),
                )

            self.loop = self._opened.enter_context(ScoringLoop(settings, make))
            texts = _Texts()
            self.control = TritonScorer(self.loop, treatment=False, texts=texts)
            self.treatment = TritonScorer(self.loop, treatment=True, texts=texts)
            self._opened = self._opened.pop_all()

    def __enter__(self) -> StudentArms:
        return self

    def __exit__(self, *details: object) -> None:
        self._opened.close()


class _Texts:
    """Items' texts, each made once for an item as it is offered."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Item, str]] = {}

    def __call__(self, item: Item) -> str:
        made = self._made.get(item.item_id)
        if made is None or made[0] is not item:
            made = self._made[item.item_id] = (item, text_of(item))
        return made[1]
