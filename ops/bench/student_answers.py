"""Pairs and what the teacher said of them, as the students' benches read them: `student_judgements` writes them.

FOLDER/SET/train.jsonl   pairs to learn from, in the order in which smaller runs take the first ones
FOLDER/SET/eval.jsonl    pairs of other queries to evaluate on, with their known grades
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from itertools import zip_longest
from pathlib import Path

import click
import msgspec

from ops.bench.teacher_quality import Answer, read_answers
from ops.shop.judged_pairs import JudgedPair, evaluation_shop, real_pairs, text_of
from ops.shop.retrieval import Retriever
from ops.shop.truth import GAINS, grade
from streams.item_text import query_text
from students.examples import TrainingExample, from_judgement
from students.grades import GradeScale

TRAIN, EVAL = "train.jsonl", "eval.jsonl"
SCALE = GradeScale.of({label.value: gain for label, gain in GAINS.items()})


def pairs_to_learn_from(
    name: str, data: Path, *, count: int, per_query: int, unseen: Collection[str]
) -> list[JudgedPair]:
    """Return pairs of queries that are not in `unseen`, at most `per_query` of each, in an order drawn once.

    A smaller count gives the beginning of a larger one. Queries of the shop count once each, however often they
    are asked: most are of the tail. A real catalogue may have fewer than `count`; it has few queries with many pairs,
    so each gives one pair in turn.
    """
    if name == "shop":
        return _shop_pairs(count, per_query=per_query, unseen=unseen)
    found = [
        each
        for each in real_pairs(data / name, golden=False, per_query=per_query)
        if each.query not in unseen
    ]
    by_query: dict[str, list[JudgedPair]] = {}
    for each in found:
        by_query.setdefault(each.query, []).append(each)
    order = sorted(by_query)
    random.Random(f"student pairs {name}").shuffle(order)
    in_turn = zip_longest(*(by_query[query] for query in order))
    return [each for turn in in_turn for each in turn if each][:count]


def _shop_pairs(count: int, *, per_query: int, unseen: Collection[str]) -> list[JudgedPair]:
    shop = evaluation_shop()
    retriever = Retriever(shop.generated.items.values())
    rng = random.Random("student pairs shop")
    texts = [each.text for each in shop.traffic]
    rng.shuffle(texts)
    found: list[JudgedPair] = []
    for text in texts:
        if len(found) >= count:
            break
        candidates = retriever.candidates(text)
        drawn = rng.sample(candidates, min(per_query, len(candidates)))
        if query_text(text) in unseen:
            continue
        found += [
            JudgedPair(
                query=query_text(text),
                item_id=item_id,
                item_text=text_of(shop.generated.items[item_id]),
                grade=grade(shop.intents[text], shop.generated.facts[item_id]).value,
                traffic_class="",
                source="shop",
            )
            for item_id in drawn
        ]
    return found[:count]


def read(folder: Path, name: str) -> tuple[list[Answer], list[Answer]]:
    """Return what to learn from and what to evaluate on. Raises click.ClickException for files that are none."""
    return read_answers(folder / name / TRAIN), read_answers(folder / name / EVAL)


def judged(answers: Sequence[Answer]) -> list[TrainingExample]:
    """Return the teacher's judgements as examples; what it refused is left out. Raises ExampleError."""
    return [from_judgement(each.judgement, SCALE) for each in answers if each.judgement]


def graded(answers: Sequence[Answer]) -> list[JudgedPair]:
    """Return the pairs with their known grades."""
    return [each.pair for each in answers]


def by_people(answers: Sequence[Answer]) -> list[TrainingExample]:
    """Return the pairs' known grades alone as examples: hard labels of people, or of the shop's truth."""
    return [
        TrainingExample(
            query=each.pair.query,
            item_id=each.pair.item_id,
            item_text=each.pair.item_text,
            grade=each.pair.grade,
        )
        for each in answers
    ]


def write(path: Path, answers: Sequence[Answer]) -> None:
    """Write answers as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.Encoder().encode_lines(answers))


def sets_of(names: str) -> list[str]:
    """Return the sets of a comma-separated option. Raises click.UsageError for one that is not there."""
    found = names.split(",")
    for name in found:
        if name not in ("shop", "esci", "chorus"):
            raise click.UsageError(f"expected sets among shop, esci, chorus, got {name!r}")
    return found
