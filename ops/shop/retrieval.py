"""Candidate retrieval: the items whose title, brand or category share words with the query, best bm25 first.

A SQLite FTS5 index in memory. Words the catalogue does not know are replaced by the most similar ones it does
(by letter trigrams), as search engines do, so that a slip of the finger still finds something. Answers are
cached by query: an item that changes is found by its new words where a query was not asked before.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, OrderedDict
from collections.abc import Iterable

from ops.shop.items import Item, words

CANDIDATES = 50
MAX_QUERY_WORDS = 24
MAX_WORD_CHARS = 40
#: Below this Jaccard similarity of letter trigrams a known word is not taken for the unknown one.
MIN_SIMILARITY = 0.35
CACHED_QUERIES = 20_000
_CREATE = "CREATE VIRTUAL TABLE items USING fts5(item_id UNINDEXED, title, brand, category)"
#: bm25 weighs a word in the category a little less.
_SEARCH = (
    "SELECT item_id FROM items WHERE items MATCH ? ORDER BY bm25(items, 0, 1.0, 1.0, 0.7), rowid LIMIT ?"
)


class Retriever:
    """Finds at most `candidates` item ids for any query text. To be used in the thread that made it."""

    def __init__(self, items: Iterable[Item], *, candidates: int = CANDIDATES) -> None:
        """Index the items. Where a query finds nothing, the first `candidates` of them are the answer."""
        self._candidates = candidates
        self._database = sqlite3.connect(":memory:")
        self._database.execute(_CREATE)
        rows = [(item.item_id, item.title, item.brand, " ".join(item.category)) for item in items]
        self._database.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", rows)
        self._rowids = {row[0]: number for number, row in enumerate(rows, 1)}
        self._database.execute("INSERT INTO items(items) VALUES ('optimize')")
        self._frequencies = Counter(word for row in rows for word in set(words(" ".join(row[1:]))))
        self._words_with: dict[str, list[str]] = {}
        for word in sorted(self._frequencies):
            self._learn(word)
        self._default = [row[0] for row in rows[:candidates]]
        self._cache: OrderedDict[str, list[str]] = OrderedDict()

    def replace(self, item: Item) -> None:
        """Index an item anew. Raises KeyError for one that was not there."""
        self._database.execute(
            "UPDATE items SET title = ?, brand = ?, category = ? WHERE rowid = ?",
            (item.title, item.brand, " ".join(item.category), self._rowids[item.item_id]),
        )
        for word in sorted(set(words(f"{item.title} {item.brand}")) - self._frequencies.keys()):
            self._frequencies[word] = 1
            self._learn(word)

    def candidates(self, query: str) -> list[str]:
        """Return item ids, best first. Any text will do: nothing in it is read as search syntax."""
        if query in self._cache:
            self._cache.move_to_end(query)
            return self._cache[query]
        found = self._search(self.known_words(query)) or self._default
        self._cache[query] = found
        if len(self._cache) > CACHED_QUERIES:
            self._cache.popitem(last=False)
        return found

    def known_words(self, query: str) -> list[str]:
        """Return the query's different words, an unknown one replaced by its nearest known one or dropped."""
        known: dict[str, None] = {}
        for word in words(query)[:MAX_QUERY_WORDS]:
            nearest = word if word in self._frequencies else self._nearest(word[:MAX_WORD_CHARS])
            if nearest:
                known[nearest] = None
        return list(known)

    def _learn(self, word: str) -> None:
        for trigram in _trigrams(word):
            self._words_with.setdefault(trigram, []).append(word)

    def _nearest(self, word: str) -> str:
        trigrams = _trigrams(word)
        shared = Counter(other for trigram in trigrams for other in self._words_with.get(trigram, ()))
        best, similarity = "", MIN_SIMILARITY
        for other, common in shared.items():
            jaccard = common / (len(trigrams) + len(_trigrams(other)) - common)
            if (jaccard, self._frequencies[other]) > (similarity, self._frequencies[best]):
                best, similarity = other, jaccard
        return best

    def _search(self, known: list[str]) -> list[str]:
        """Return the matches of all words, filled up with those of any."""
        found: dict[str, None] = {}
        for operator in (" AND ", " OR "):
            if len(found) < self._candidates and known:
                expression = operator.join(f'"{word}"' for word in known)
                rows = self._database.execute(
                    _SEARCH,
                    (expression, self._candidates),
                )
                found |= dict.fromkeys(row[0] for row in rows)
        return list(found)[: self._candidates]


def _trigrams(word: str) -> set[str]:
    padded = f" {word} "
    return {padded[at : at + 3] for at in range(len(padded) - 2)}
