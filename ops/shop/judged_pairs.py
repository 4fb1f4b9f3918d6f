"""Pairs with grades that are known: from the generated shop's truth, or from people's judgements of a real catalogue.

Training and evaluation never share a query: a real catalogue is split by query (`golden_queries`), and the
generated shops to train on have other seeds, hence other brands, items and queries, than the one to evaluate on.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ops.settings import Shop as ShopSettings
from ops.settings import Streams as StreamsSettings
from ops.shop import catalogue, queries, real_catalogue
from ops.shop.items import Item, TrafficQuery
from ops.shop.retrieval import Retriever
from ops.shop.truth import Facts, Grade, grade
from streams.item_text import item_text, query_text

#: Share of a real catalogue's queries that nothing is trained on, and the seed that draws them.
GOLDEN_SHARE = 0.4
GOLDEN_SEED = 7
#: No shop with this seed is ever trained on: it is the demo's, and evaluations'.
EVALUATION_SEED = 7


class JudgedPair(msgspec.Struct, frozen=True, kw_only=True):
    """A pair and its known grade. `traffic_class` is head, torso or tail, empty where there is no traffic."""

    query: str
    item_id: str
    item_text: str
    grade: str
    traffic_class: str
    source: str


def text_of(item: Item) -> str:
    """Return the item's text as teacher and students read it."""
    return item_text(title=item.title, brand=item.brand, category=item.category, attributes=item.attributes)


@dataclass(frozen=True, slots=True)
class EvaluationShop:
    """The demo's shop: its traffic by falling share, the intent of each query's text, queries with their class."""

    generated: catalogue.Catalogue
    traffic: list[TrafficQuery]
    intents: Mapping[str, Facts]
    queries: list[tuple[str, str]]


@functools.cache
def evaluation_shop() -> EvaluationShop:
    """Return the demo's shop at its default size, its queries with their traffic class."""
    shop, streams = ShopSettings(seed=EVALUATION_SEED), StreamsSettings()
    generated = catalogue.generate(items=shop.items, seed=shop.seed)
    traffic, intents = queries.generate(generated, queries=shop.queries, seed=shop.seed)
    classes = queries.traffic_classes(traffic, head_share=streams.head_share, torso_share=streams.torso_share)
    classed = [(each.text, name.value) for each, name in zip(traffic, classes, strict=True)]
    return EvaluationShop(generated, traffic, intents, classed)


def evaluation_queries() -> frozenset[str]:
    """Return all queries of the demo's shop: nothing is trained on any of them."""
    return frozenset(text for text, _ in evaluation_shop().queries)


def shop_pairs(*, sampled_queries: int, per_query: int) -> list[JudgedPair]:
    """Return `per_query` candidates of each of `sampled_queries` queries of the demo's shop, by query.

    A third of the queries come from each traffic class as far as there are enough. Candidates are drawn evenly
    from what retrieval finds, so grades have the mix that a scorer meets. Equal arguments give equal pairs.
    """
    shop = evaluation_shop()
    retriever = Retriever(shop.generated.items.values())
    rng = random.Random(f"judged pairs {EVALUATION_SEED}")
    classes: dict[str, list[str]] = {"head": [], "torso": [], "tail": []}
    for text, name in shop.queries:
        classes[name].append(text)
    chosen: list[tuple[str, str]] = []
    for number, (name, texts) in enumerate(sorted(classes.items(), key=lambda entry: len(entry[1]))):
        left = sampled_queries - len(chosen)
        chosen += [
            (name, text) for text in rng.sample(texts, min(len(texts), left // (len(classes) - number)))
        ]
    pairs = []
    for name, text in sorted(chosen):
        found = retriever.candidates(text)
        for item_id in rng.sample(found, min(per_query, len(found))):
            pairs.append(
                JudgedPair(
                    query=query_text(text),
                    item_id=item_id,
                    item_text=text_of(shop.generated.items[item_id]),
                    grade=grade(shop.intents[text], shop.generated.facts[item_id]).value,
                    traffic_class=name,
                    source="shop",
                )
            )
    return pairs


def real_pairs(folder: Path, *, golden: bool, per_query: int | None = None) -> list[JudgedPair]:
    """Return a real catalogue's judged pairs: of the golden queries, or of all others.

    At most `per_query` of each query, drawn evenly. Raises CatalogueError if the folder holds no catalogue.
    """
    loaded = real_catalogue.load(folder, seed=GOLDEN_SEED, golden_share=GOLDEN_SHARE)
    rng = random.Random(f"judged pairs {GOLDEN_SEED}")
    by_query: dict[str, list[tuple[str, Grade]]] = {}
    for (query, item_id), given in sorted(loaded.truth.grades.items()):
        if (query in loaded.golden) is golden:
            by_query.setdefault(query, []).append((item_id, given))
    return [
        JudgedPair(
            query=query_text(query),
            item_id=item_id,
            item_text=text_of(loaded.items[item_id]),
            grade=given.value,
            traffic_class="",
            source=folder.name,
        )
        for query, judged in by_query.items()
        for item_id, given in rng.sample(judged, min(len(judged), per_query or len(judged)))
    ]


def golden_queries_of(folder: Path) -> frozenset[str]:
    """Return a real catalogue's golden queries: nothing is trained on any of them."""
    return real_catalogue.load(folder, seed=GOLDEN_SEED, golden_share=GOLDEN_SHARE).golden


def evaluation_set(name: str, data: Path, *, sampled_queries: int, per_query: int) -> list[JudgedPair]:
    """Return the evaluation set `shop`, or one of a folder in `data`: pairs of queries that no training saw."""
    if name == "shop":
        return shop_pairs(sampled_queries=sampled_queries, per_query=per_query)
    return real_pairs(data / name, golden=True, per_query=per_query)
