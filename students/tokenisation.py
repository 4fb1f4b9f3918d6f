"""Texts to tokens, for training and for every way of serving: needs no more than `tokenizers` and numpy.

A pair is `[CLS] query [SEP] item [SEP]`, or what else the tokenizer's post-processor puts around two texts. The
query is cut to its own limit, then the item to what is left: a long title never pushes the query out. Words of a
text that spell a special token are words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from tokenizers import Encoding
from tokenizers import Tokenizer as FastTokenizer

Ids = npt.NDArray[np.int64]
#: A half-open interval of characters.
Interval = tuple[int, int]

#: Whose a token is, in `Tokens.sides`.
SPECIAL, QUERY, ITEM = -1, 0, 1


class TextError(ValueError):
    """A text cannot be encoded, such as one with half of a surrogate pair. The message shows it."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tokens at most: of a query without special ones, and of a whole input with them (a pair, or a text alone)."""

    query: int = 24
    input: int = 96

    def __post_init__(self) -> None:
        """Raise ValueError for limits that leave an item no room."""
        if self.query < 1 or self.input < self.query + 8:
            raise ValueError(
                "expected a query limit of at least 1 token and an input limit 8 tokens above it, "
                f"got {self.query} and {self.input}"
            )


@dataclass(frozen=True, slots=True)
class Tokens:
    """One input of L tokens. `offsets` are half-open intervals of characters in the text of the token's side,
    (0, 0) for special ones; `sides` says SPECIAL, QUERY or ITEM; `segments` are 0 for the query and what surrounds
    it, 1 for a pair's item. `cut` holds side and interval of each token that the limits took away."""

    ids: list[int]
    segments: list[int]
    sides: list[int]
    offsets: list[Interval]
    cut: list[tuple[int, Interval]]

    def __len__(self) -> int:
        """Return L."""
        return len(self.ids)


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """A padded batch: ids, mask and segments, each int64 of shape [B, L]."""

    input_ids: Ids
    attention_mask: Ids
    token_type_ids: Ids


@dataclass(frozen=True, slots=True)
class _Frame:
    """The special tokens around one text or two."""

    before: list[int]
    between: list[int]
    after: list[int]

    def __len__(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)


class StudentTokeniser:
    """A fast tokenizer under limits."""

    def __init__(self, tokenizer: FastTokenizer, limits: Limits) -> None:
        """Take a tokenizer; it is set to neither cut nor pad. Raises ValueError if it has no padding token."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer
        self.limits = limits
        self.pad_id = _pad_id(tokenizer)
        self._pair = _frame(tokenizer, pair=True)
        self._single = _frame(tokenizer, pair=False)

    def pairs(self, queries: Sequence[str], items: Sequence[str]) -> list[Tokens]:
        """Return one input for each (query, item text). Raises TextError; ValueError for unequal numbers."""
        room = self.limits.input - len(self._pair)
        found = []
        for query, item in zip(self._plain(queries), self._plain(items), strict=True):
            asked = min(len(query.ids), self.limits.query)
            found.append(self._framed(self._pair, (query, asked), (item, min(len(item.ids), room - asked))))
        return found

    def queries(self, texts: Sequence[str]) -> list[Tokens]:
        """Return one input for each query alone."""
        return [
            self._framed(self._single, (each, min(len(each.ids), self.limits.query)), None)
            for each in self._plain(texts)
        ]

    def items(self, texts: Sequence[str]) -> list[Tokens]:
        """Return one input for each item text alone; its side is ITEM, its segment 0."""
        room = self.limits.input - len(self._single)
        return [
            self._framed(self._single, (each, min(len(each.ids), room)), None, side=ITEM)
            for each in self._plain(texts)
        ]

    def padded(self, inputs: Sequence[Tokens]) -> Inputs:
        """Return a batch as long as its longest input."""
        shape = (len(inputs), max(map(len, inputs), default=0))
        ids = np.full(shape, self.pad_id, dtype=np.int64)
        mask, segments = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for row, each in enumerate(inputs):
            ids[row, : len(each)] = each.ids
            mask[row, : len(each)] = 1
            segments[row, : len(each)] = each.segments
        return Inputs(input_ids=ids, attention_mask=mask, token_type_ids=segments)

    def _plain(self, texts: Sequence[str]) -> list[Encoding]:
        """Read each text once: a query comes with all its items."""
        try:
            distinct = list(dict.fromkeys(texts))
            read: list[Encoding] = self.tokenizer.encode_batch(distinct, add_special_tokens=False)
        except TypeError as error:
            # Its own message tells neither which text nor what is wrong with it.
            wrong = next((text for text in texts if not _encodable(text)), None)
            raise TextError(f"expected text made by streams.item_text, got {wrong!r:.80}") from error
        by_text = dict(zip(distinct, read, strict=True))
        return [by_text[text] for text in texts]

    @staticmethod
    def _framed(
        frame: _Frame, first: tuple[Encoding, int], second: tuple[Encoding, int] | None, *, side: int = QUERY
    ) -> Tokens:
        parts: list[tuple[list[int], list[Interval], int, int]] = []

        def special(ids: list[int], segment: int) -> None:
            parts.append((ids, [(0, 0)] * len(ids), SPECIAL, segment))

        cut: list[tuple[int, Interval]] = []
        special(frame.before, 0)
        for number, text in enumerate((first, second)):
            if text is not None:
                encoding, size = text
                # Each look at them is a copy of all.
                ids, offsets = encoding.ids, encoding.offsets
                parts.append((ids[:size], offsets[:size], side + number, number))
                cut += [(side + number, interval) for interval in offsets[size:]]
                if number == 0 and second is not None:
                    special(frame.between, 0)
        special(frame.after, 0 if second is None else 1)
        return Tokens(
            ids=[value for ids, _, _, _ in parts for value in ids],
            segments=[segment for ids, _, _, segment in parts for _ in ids],
            sides=[whose for ids, _, whose, _ in parts for _ in ids],
            offsets=[interval for _, offsets, _, _ in parts for interval in offsets],
            cut=cut,
        )


def _frame(tokenizer: FastTokenizer, *, pair: bool) -> _Frame:
    """Read off the special tokens around texts of one known token each."""
    text = next(
        word for word in ("a", "0", "x") if len(tokenizer.encode(word, add_special_tokens=False).ids) == 1
    )
    ids = tokenizer.encode(text, text if pair else None).ids
    word = tokenizer.encode(text, add_special_tokens=False).ids[0]
    places = [place for place, value in enumerate(ids) if value == word]
    if len(places) != (2 if pair else 1):
        raise ValueError(f"expected a tokenizer that keeps texts whole, got ids {ids} for {text!r}")
    first, last = places[0], places[-1]
    return _Frame(before=ids[:first], between=ids[first + 1 : last], after=ids[last + 1 :])


def _encodable(text: object) -> bool:
    try:
        return isinstance(text, str) and bool(text.encode() or True)
    except UnicodeEncodeError:
        return False


def _pad_id(tokenizer: FastTokenizer) -> int:
    for name in ("[PAD]", "<pad>", "<|padding|>"):
        if (found := tokenizer.token_to_id(name)) is not None:
            return int(found)
    raise ValueError("expected a tokenizer with a padding token [PAD] or <pad>, found none")
