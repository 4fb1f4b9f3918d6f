"""A record of `relevance.pairs` typed and checked, or refused with a reason."""

from __future__ import annotations

from typing import Final

import msgspec

from streams.item_text import content_hash
from streams.records import Pair

MAX_ID_CHARS: Final = 512
#: Far above what `streams.item_text` makes; beyond it no teacher's context would hold it.
MAX_TEXT_CHARS: Final = 16_384

_decode = msgspec.json.Decoder(Pair).decode


class RefusedPairError(ValueError):
    """A record is no pair that can be judged. `reason` is one word for the dead letter."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def typed(value: bytes | None) -> Pair:
    """Return the pair of a record. Raises RefusedPairError, which says what was expected."""
    try:
        pair = _decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedPairError("not_a_pair", str(error)) from error
    lengths = (("query", pair.query, MAX_TEXT_CHARS), ("item_id", pair.item_id, MAX_ID_CHARS))
    for name, text, most in (*lengths, ("item_text", pair.item_text, MAX_TEXT_CHARS)):
        if not 0 < len(text) <= most:
            raise RefusedPairError(
                "wrong_length", f"expected a {name} of 1 to {most} characters, got {len(text)}"
            )
    if pair.content_hash != (hashed := content_hash(pair.item_text)):
        raise RefusedPairError(
            "wrong_content_hash",
            f"expected the hash of the item's text, {hashed}, got {pair.content_hash[:40]!r}",
        )
    return pair
