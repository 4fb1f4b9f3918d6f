"""What people have graded when the loop begins: a few pairs to learn from, the gate's golden set, unseen queries.

The generated shop's people know its truth; in the labels to learn from a share of the grades is a neighbouring one,
as people's are. The three sets have no query in common, and nothing to learn from is of a tail query: the tail is
what the teacher is for. Queries of the golden set are searched for like any other, those of the unseen set never are.
A real catalogue brings its own people's grades: golden and unseen are queries that are kept out of traffic,
and of its tail for that: nobody searches for them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ops.settings import Settings
from ops.shop import catalogue, queries, real_catalogue
from ops.shop.items import Item, TrafficQuery
from ops.shop.judged_pairs import text_of
from ops.shop.retrieval import Retriever
from ops.shop.truth import Grade, grade
from streams.item_text import query_text
from streams.records import TrafficClass
from students.examples import LabelledPair

#: Pairs to learn from, and how many of a query.
LEARNED, LEARNED_PER_QUERY = 800, 5
#: Of the grades to learn from are off by one step of the scale.
NOISE = 0.1
#: Queries of each traffic class in the golden set, and pairs of each query.
GOLDEN_PER_CLASS, GOLDEN_PER_QUERY = 40, 8
#: Queries of the unseen set, and pairs of each query.
UNSEEN, UNSEEN_PER_QUERY = 150, 10
#: Pairs of each golden and unseen query of a real catalogue, which has few queries and many judged items of each.
REAL_PER_QUERY = 40
GRADES = tuple(Grade)

Classed = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Labels:
    """Graded pairs in cleaned texts: to learn from, of the golden set, of queries that nothing of the loop sees; and
    every item's id and text."""

    learned: list[LabelledPair]
    golden: list[LabelledPair]
    unseen: list[LabelledPair]
    items: list[tuple[str, str]]


def labels_of(settings: Settings) -> Labels:
    """Return the labels of the settings' shop; equal settings give equal labels.

    Raises CatalogueError for a real catalogue that cannot be read or has too few judged queries for three sets.
    """
    if settings.shop.catalogue is not None:
        return _of_real(settings)
    return _of_generated(settings)


def _of_generated(settings: Settings) -> Labels:
    shop = settings.shop
    rng = random.Random(f"labels {shop.seed}")
    generated = catalogue.generate(items=shop.items, seed=shop.seed)
    traffic, intents = queries.generate(generated, queries=shop.queries, seed=shop.seed)
    # As many again, of other words and wishes: what nobody in this shop has searched for.
    others, wishes = queries.generate(generated, queries=shop.queries, seed=shop.seed + 1)
    by_class: dict[str, list[Classed]] = {}
    for text, name in _classed(traffic, settings):
        by_class.setdefault(name, []).append((text, name))
    golden = [
        each for pool in by_class.values() for each in rng.sample(pool, min(GOLDEN_PER_CLASS, len(pool) // 2))
    ]
    graded_before = {query_text(text) for text, _ in golden}
    known = [
        each
        for each in (*by_class.get("head", ()), *by_class.get("torso", ()))
        if query_text(each[0]) not in graded_before
    ]
    searched = {query_text(each.text) for each in traffic}
    unseen = [each for each in _classed(others, settings) if query_text(each[0]) not in searched]
    retriever = Retriever(generated.items.values())
    truth = intents | wishes

    def graded(text: str, item_id: str) -> Grade:
        return grade(truth[text], generated.facts[item_id])

    def pairs_of(chosen: Sequence[Classed], per_query: int) -> list[LabelledPair]:
        return _pairs(rng, chosen, per_query, retriever.candidates, graded, generated.items)

    learned = pairs_of(rng.sample(known, min(len(known), LEARNED // LEARNED_PER_QUERY)), LEARNED_PER_QUERY)
    return Labels(
        learned=noisy(learned, rng, share=NOISE),
        golden=pairs_of(golden, GOLDEN_PER_QUERY),
        unseen=pairs_of(rng.sample(unseen, min(len(unseen), UNSEEN)), UNSEEN_PER_QUERY),
        items=_texts(generated.items),
    )


def _of_real(settings: Settings) -> Labels:
    shop = settings.shop
    assert shop.catalogue is not None
    loaded = real_catalogue.load(shop.catalogue, seed=shop.seed, golden_share=shop.golden_share)
    rng = random.Random(f"labels {shop.seed}")
    judged: dict[str, list[str]] = {}
    for query, item_id in sorted(loaded.truth.grades):
        judged.setdefault(query, []).append(item_id)
    # Texts that read the same when cleaned would be one query in two sets.
    searched = {query_text(each.text) for each in loaded.queries}
    kept_back = sorted({query_text(text): text for text in sorted(loaded.golden)}.items())
    kept_back = [each for each in kept_back if each[0] not in searched]
    rng.shuffle(kept_back)
    half = len(kept_back) // 2
    known = [each for each in _classed(loaded.queries, settings) if each[1] != TrafficClass.TAIL.value]
    if not half or not known:
        raise real_catalogue.CatalogueError(
            f"{shop.catalogue}: expected judged queries for traffic, golden set and unseen set, got"
            f" {len(known)}, {half} and {len(kept_back) - half} (RELEVANCE_SHOP__GOLDEN_SHARE)"
        )

    def pairs_of(chosen: Sequence[Classed], per_query: int) -> list[LabelledPair]:
        return _pairs(rng, chosen, per_query, judged.__getitem__, loaded.truth.grade, loaded.items)

    tail = TrafficClass.TAIL.value
    # Few queries are judged, and each has many items: all of these are for learning.
    per_query = max(LEARNED_PER_QUERY, LEARNED // len(known))
    return Labels(
        learned=pairs_of(known, per_query)[:LEARNED],
        golden=pairs_of([(text, tail) for _, text in kept_back[:half]], REAL_PER_QUERY),
        unseen=pairs_of([(text, tail) for _, text in kept_back[half:]], REAL_PER_QUERY),
        items=_texts(loaded.items),
    )


def noisy(pairs: Sequence[LabelledPair], rng: random.Random, *, share: float) -> list[LabelledPair]:
    """Return the pairs with about a `share` in [0, 1] of the grades moved one step up or down the scale."""
    found = []
    for pair in pairs:
        given = pair.grade
        if rng.random() < share:
            at = GRADES.index(Grade(given))
            given = rng.choice([GRADES[each].value for each in (at - 1, at + 1) if 0 <= each < len(GRADES)])
        found.append(
            LabelledPair(
                query=pair.query,
                item_id=pair.item_id,
                item_text=pair.item_text,
                grade=given,
                traffic_class=pair.traffic_class,
            )
        )
    return found


def _classed(traffic: Sequence[TrafficQuery], settings: Settings) -> list[Classed]:
    streams = settings.streams
    classes = queries.traffic_classes(traffic, head_share=streams.head_share, torso_share=streams.torso_share)
    return [(each.text, name.value) for each, name in zip(traffic, classes, strict=True)]


def _pairs(
    rng: random.Random,
    chosen: Sequence[Classed],
    per_query: int,
    candidates: Callable[[str], Sequence[str]],
    graded: Callable[[str, str], Grade],
    items: Mapping[str, Item],
) -> list[LabelledPair]:
    """Return `per_query` candidates of each query, drawn evenly: grades have the mix that a scorer meets."""
    found: dict[tuple[str, str], LabelledPair] = {}
    for text, name in chosen:
        offered = candidates(text)
        for item_id in rng.sample(offered, min(per_query, len(offered))):
            query = query_text(text)
            found[query, item_id] = LabelledPair(
                query=query,
                item_id=item_id,
                item_text=text_of(items[item_id]),
                grade=graded(text, item_id).value,
                traffic_class=name,
            )
    return list(found.values())


def _texts(items: Mapping[str, Item]) -> list[tuple[str, str]]:
    return [(item_id, text_of(item)) for item_id, item in items.items()]
