"""A real catalogue with judged queries instead of the generated shop: clicks then follow people's grades.

A folder holds `products.jsonl.gz` and `judgements.jsonl.gz` in one of two dialects, told apart by the fields
of the first judgement:

- `label`: Amazon Shopping Queries (ESCI). E, S, C, I as they stand.
- `grade`: Chorus. 3 and 2 are exact, 1 substitute, 0 irrelevant; prices are in cents.

A pair that nobody judged counts as irrelevant, so click rates are lower than people would give. Items without
a price are sold at the catalogue's median price. The judged queries get Zipf traffic in a seeded order.
"""

from __future__ import annotations

import gzip
import json
import math
import random
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ops.shop.items import Item, TrafficQuery
from ops.shop.queries import zipf_shares
from ops.shop.truth import Grade

PRODUCTS = "products.jsonl.gz"
JUDGEMENTS = "judgements.jsonl.gz"
MAX_PRICE = 1e12
SETTING = "RELEVANCE_SHOP__CATALOGUE / --catalogue"
_CHORUS_GRADES = {0: Grade.IRRELEVANT, 1: Grade.SUBSTITUTE, 2: Grade.EXACT, 3: Grade.EXACT}


class CatalogueError(ValueError):
    """A real catalogue cannot be read. The message names the file, the line and the setting."""


class JudgedTruth:
    """Truth from people's grades; a pair that nobody judged is irrelevant."""

    def __init__(self, grades: Mapping[tuple[str, str], Grade]) -> None:
        """`grades` by (query text, item id)."""
        self.grades = grades

    def grade(self, query: str, item_id: str) -> Grade:
        """Return the grade that people gave, or irrelevant."""
        return self.grades.get((query, item_id), Grade.IRRELEVANT)

    def content(self) -> bytes:
        """Return all that the grades follow from."""
        return json.dumps(sorted((*pair, grade.value) for pair, grade in self.grades.items())).encode()


@dataclass(frozen=True, slots=True)
class RealCatalogue:
    """Items by id, queries by falling share of traffic, the golden ones kept out of it, people's grades."""

    items: Mapping[str, Item]
    queries: list[TrafficQuery]
    golden: frozenset[str]
    truth: JudgedTruth


def load(folder: Path, *, seed: int, golden_share: float = 0.0) -> RealCatalogue:
    """Read a catalogue. Raises CatalogueError for a missing folder or file, or a line that makes no sense."""
    if not folder.is_dir():
        raise CatalogueError(
            f"{folder} is not a folder; expected {PRODUCTS} and {JUDGEMENTS} there ({SETTING})"
        )
    dialect, grades = _read_judgements(folder / JUDGEMENTS)
    items = _read_products(folder / PRODUCTS, dialect)
    for query, item_id in grades:
        if item_id not in items:
            raise CatalogueError(
                f"{folder / JUDGEMENTS}: {item_id!r}, judged for {query!r}, is not in {PRODUCTS} ({SETTING})"
            )
    texts = sorted({query for query, _ in grades})
    golden = golden_queries(texts, share=golden_share, seed=seed)
    live = [text for text in texts if text not in golden]
    if not live:
        raise CatalogueError(f"{folder / JUDGEMENTS} leaves no query for traffic ({SETTING})")
    random.Random(f"traffic {seed}").shuffle(live)
    traffic = [TrafficQuery(text, share) for text, share in zip(live, zipf_shares(len(live)), strict=True)]
    return RealCatalogue(items=items, queries=traffic, golden=golden, truth=JudgedTruth(grades))


def golden_queries(texts: Iterable[str], *, share: float, seed: int) -> frozenset[str]:
    """Return the queries to keep back for a golden set: a seeded `share` in [0, 1] of them, rounded down.

    The split is by query: all pairs of a query stay on one side.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"expected a share in [0, 1], got {share}")
    shuffled = sorted(set(texts))
    random.Random(f"golden {seed}").shuffle(shuffled)
    return frozenset(shuffled[: math.floor(share * len(shuffled))])


def _read_judgements(path: Path) -> tuple[str, dict[tuple[str, str], Grade]]:
    dialect = ""
    grades: dict[tuple[str, str], Grade] = {}
    for where, record in _records(path):
        if not dialect:
            dialect = next((field for field in ("label", "grade") if field in record), "")
        query = _text(record, "query", where)
        item_id = _text(record, "product_id", where)
        given = record.get(dialect)
        if dialect == "label" and isinstance(given, str) and given in {grade.value for grade in Grade}:
            grade = Grade(given)
        elif dialect == "grade" and type(given) is int and given in _CHORUS_GRADES:
            grade = _CHORUS_GRADES[given]
        else:
            expected = {"label": "label E, S, C or I", "grade": "grade 0, 1, 2 or 3"}.get(
                dialect, "label or grade"
            )
            raise CatalogueError(f"{where}: expected {expected}, got {str(given)[:40]!r} ({SETTING})")
        if grades.setdefault((query, item_id), grade) != grade:
            raise CatalogueError(
                f"{where}: {query!r} and {item_id!r} have been graded otherwise before ({SETTING})"
            )
    if not grades:
        raise CatalogueError(f"{path} holds no judgements ({SETTING})")
    return dialect, grades


def _read_products(path: Path, dialect: str) -> dict[str, Item]:
    read = _esci_item if dialect == "label" else _chorus_item
    rows: dict[str, tuple[dict[str, Any], float | None]] = {}
    for where, record in _records(path):
        item_id = _text(record, "product_id", where)
        if item_id in rows:
            raise CatalogueError(f"{where}: product_id {item_id!r} has come before ({SETTING})")
        rows[item_id] = read(record, where)
    prices = [price for _, price in rows.values() if price]
    if not prices:
        raise CatalogueError(f"{path} holds no product with a price ({SETTING})")
    typical = median(prices)
    return {
        item_id: Item(item_id=item_id, price=price or typical, **fields)
        for item_id, (fields, price) in rows.items()
    }


def _esci_item(record: dict[str, Any], where: str) -> tuple[dict[str, Any], float | None]:
    category = record.get("category") or []
    if not isinstance(category, list) or not all(isinstance(part, str) for part in category):
        raise CatalogueError(f"{where}: expected category to be a list of texts ({SETTING})")
    colour = _text(record, "color", where, optional=True)
    return {
        "title": _text(record, "title", where),
        "brand": _text(record, "brand", where, optional=True),
        "category": tuple(category),
        "attributes": {"colour": colour} if colour else {},
    }, _price(record, where)


def _chorus_item(record: dict[str, Any], where: str) -> tuple[dict[str, Any], float | None]:
    attributes = {
        name.removeprefix("attr_t_"): value
        for name, value in record.items()
        if name.startswith("attr_t_") and isinstance(value, str)
    }
    colour = attributes.pop("product_colour", "")
    price = _price(record, where)
    return {
        "title": _text(record, "title", where),
        "brand": _text(record, "supplier", where, optional=True),
        "category": (attributes["product_type"],) if "product_type" in attributes else (),
        "attributes": {"colour": colour, **attributes} if colour else attributes,
    }, None if price is None else price / 100


def _text(record: dict[str, Any], field: str, where: str, *, optional: bool = False) -> str:
    value = record.get(field)
    if value is None and optional:
        return ""
    if not isinstance(value, str) or not (value or optional):
        raise CatalogueError(f"{where}: expected {field} to be a text, got {str(value)[:40]!r} ({SETTING})")
    return value


def _price(record: dict[str, Any], where: str) -> float | None:
    """Return the price, or None where there is none or it is 0."""
    value = record.get("price")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_PRICE:
        raise CatalogueError(
            f"{where}: expected price to be from 0 to {MAX_PRICE:g}, got {str(value)[:40]!r} ({SETTING})"
        )
    return float(value) or None


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, record) for each line of a gzipped JSON lines file."""
    number = 0
    try:
        with gzip.open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                where = f"{path}:{number}"
                record = json.loads(line)
                if b"\\u" in line:
                    # Half a surrogate pair is valid JSON and cannot be stored or sent anywhere.
                    json.dumps(record, ensure_ascii=False).encode()
                if not isinstance(record, dict):
                    raise CatalogueError(f"{where}: expected a JSON object, got {line[:40]!r} ({SETTING})")
                yield where, record
    except CatalogueError:
        raise
    except (ValueError, RecursionError) as error:
        raise CatalogueError(f"{path}:{number}: expected a line of JSON: {error} ({SETTING})") from error
    except (OSError, EOFError, zlib.error) as error:
        raise CatalogueError(f"{path} cannot be read, after line {number}: {error} ({SETTING})") from error
