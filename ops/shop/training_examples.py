"""Examples for fine-tuning the teacher: pairs of generated shops and of real catalogues, chains by a program.

The shops are small and many, each with brands of its own, so that a teacher learns to read and not to remember.
A share of the titles is under attack; the grade and the chain stay those of the item.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from ops.settings import Streams as StreamsSettings
from ops.shop import catalogue, queries, real_catalogue
from ops.shop.items import Item
from ops.shop.judged_pairs import EVALUATION_SEED, GOLDEN_SEED, GOLDEN_SHARE, text_of
from ops.shop.real_chains import ChainWriter
from ops.shop.reference_chains import chain
from ops.shop.retrieval import Retriever
from ops.shop.truth import Grade, grade
from streams.item_text import query_text
from streams.records import TrafficClass
from teacher.attacks import attacks
from teacher.examples import Example

SHOP_ITEMS = 2_000
SHOP_QUERIES = 1_200
PAIRS_OF_SHOP = 180
#: Draws for a pair at most: of a grade that has its share, no more are taken.
TRIES = 20
#: A lone brand or kind of product is rare among distinct queries, and frequent in traffic.
CLASS_SHARES: Mapping[TrafficClass, float] = {
    TrafficClass.HEAD: 0.03,
    TrafficClass.TORSO: 0.27,
    TrafficClass.TAIL: 0.7,
}
SHARES = StreamsSettings()
#: Candidates are mostly substitutes; rarer grades are learned from as well.
GRADE_SHARES: Mapping[str, float] = {"E": 0.36, "S": 0.32, "C": 0.13, "I": 0.19}
ATTACKED = 0.5


def shop_examples(count: int, *, seed: int, unseen: Collection[str] = ()) -> list[Example]:
    """Return `count` examples of as many shops as that takes, `PAIRS_OF_SHOP` of each.

    Queries in `unseen` (texts as typed) are left out: they are kept for evaluation.
    """
    examples: list[Example] = []
    shop_seed = 1000 * (seed + 1)
    while len(examples) < count:
        shop_seed += 1
        if shop_seed == EVALUATION_SEED:
            continue
        examples += _of_shop(shop_seed, min(PAIRS_OF_SHOP, count - len(examples)), unseen)
    return examples


def _of_shop(seed: int, count: int, unseen: Collection[str]) -> list[Example]:
    generated = catalogue.generate(items=SHOP_ITEMS, seed=seed)
    traffic, intents = queries.generate(generated, queries=SHOP_QUERIES, seed=seed)
    retriever = Retriever(generated.items.values())
    rng = random.Random(f"training examples {seed}")
    wanted = {label: round(share * count) for label, share in GRADE_SHARES.items()}
    chosen: list[Example] = []
    classes = queries.traffic_classes(traffic, head_share=SHARES.head_share, torso_share=SHARES.torso_share)
    by_class: dict[TrafficClass, list[str]] = {}
    for each, name in zip(traffic, classes, strict=True):
        if each.text not in unseen:
            by_class.setdefault(name, []).append(each.text)
    there = sorted(by_class)
    for drawn in rng.choices(there, [CLASS_SHARES[name] for name in there], k=TRIES * count):
        if len(chosen) >= count:
            break
        text = rng.choice(by_class[drawn])
        item_id = rng.choice(retriever.candidates(text))
        given = grade(intents[text], generated.facts[item_id])
        if wanted[given.value] <= 0:
            continue
        wanted[given.value] -= 1
        item, query = _perhaps_attacked(rng, text, generated.items[item_id]), query_text(text)
        shown = text_of(item)
        chosen.append(
            Example(
                query=query,
                item_id=item_id,
                item_text=shown,
                grade=given.value,
                source=f"shop {seed}",
                chain=chain(query, intents[text], shown, generated.facts[item_id]),
            )
        )
    return chosen


def real_examples(folder: Path, count: int, *, seed: int, unseen: Collection[str] = ()) -> list[Example]:
    """Return up to `count` examples of a real catalogue's queries that are not golden nor `unseen`, drawn evenly.

    Raises CatalogueError if the folder holds no catalogue.
    """
    loaded = real_catalogue.load(folder, seed=GOLDEN_SEED, golden_share=GOLDEN_SHARE)
    writer = ChainWriter(loaded.items.values())
    rng = random.Random(f"training examples {folder.name} {seed}")
    judged = [
        (query, item_id, given)
        for (query, item_id), given in sorted(loaded.truth.grades.items())
        if query not in loaded.golden and query not in unseen
    ]
    return [
        _real_example(rng, writer, folder.name, query, loaded.items[item_id], given)
        for query, item_id, given in rng.sample(judged, min(count, len(judged)))
    ]


def _real_example(
    rng: random.Random, writer: ChainWriter, source: str, text: str, item: Item, given: Grade
) -> Example:
    query, attacked = query_text(text), _perhaps_attacked(rng, text, item)
    shown = text_of(attacked)
    return Example(
        query=query,
        item_id=item.item_id,
        item_text=shown,
        grade=given.value,
        source=source,
        chain=writer.chain(query, text_of(item), item),
    )


def _perhaps_attacked(rng: random.Random, query: str, item: Item) -> Item:
    if rng.random() >= ATTACKED:
        return item
    attack = rng.choice(attacks(rng, query, item.title, pool="training"))
    return msgspec.structs.replace(item, title=attack.title)
