"""Chains of thought for pairs of the generated shop, written by a program from what it knows of both sides.

Where no large LLM runs, these teach the small teacher: the structured facts of item and wish say which verdict
each subtask deserves, the words are looked up in the texts, and what a text does not say is unstated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ops.shop.product_types import TYPES
from ops.shop.truth import Facts, is_made_for
from ops.shop.wording import forms
from teacher.examples import ChainLine
from teacher.policy import Verdict
from teacher.quoting import find_in_item, find_words

ATTRIBUTES: Final = ("colour", "size", "material", "quantity", "audience")


def chain(query: str, intent: Facts, text: str, item: Facts) -> tuple[ChainLine, ...]:
    """Return a line for each subtask that the query names words for, in the query's order.

    `query` and `text` are the cleaned texts, `intent` and `item` what is wanted and what is sold.
    """
    lines = [
        ChainLine(
            subtask=subtask,
            query_words=asked,
            item_words=told,
            verdict=_verdict(met, told),
        )
        for subtask, asked, told, met in _findings(query, intent, text, item)
        if asked
    ]
    return tuple(sorted(lines, key=lambda line: query.index(line.query_words)))


def _verdict(met: bool, told: str) -> Verdict:
    if not told:
        return Verdict.UNSTATED
    return Verdict.MATCH if met else Verdict.MISMATCH


def _findings(query: str, intent: Facts, text: str, item: Facts) -> Iterator[tuple[str, str, str, bool]]:
    """Yield subtask, words of the query, words of the item, and whether the wish is met."""
    if intent.product_type:
        same = item.product_type == intent.product_type
        yield "category", find_words(query, _names(intent)), find_in_item(text, _names(item)), same
    if intent.brand:
        met = item.brand == intent.brand
        yield "brand", find_words(query, [intent.brand]), find_in_item(text, [item.brand]), met
    if intent.series:
        met = (intent.series, intent.model or item.model) == (item.series, item.model)
        yield "model", find_words(query, _models(intent)), find_in_item(text, _models(item)), met
    for name in ATTRIBUTES:
        if wish := getattr(intent, name):
            value = getattr(item, name)
            told = find_in_item(text, forms(name, value)) if value else ""
            yield name, find_words(query, forms(name, wish)), told, wish == value
    if intent.compatibility:
        device = item.compatibility or item.identity()
        met = is_made_for(device, intent.compatibility)
        yield "compatibility", find_words(query, [intent.compatibility]), find_in_item(text, [device]), met


def _names(facts: Facts) -> list[str]:
    return [facts.product_type, *TYPES[facts.product_type].other_names]


def _models(facts: Facts) -> list[str]:
    return [f"{facts.series} {facts.model}".strip(), facts.model or facts.series, facts.series]
