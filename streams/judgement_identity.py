"""What names a judgement in the records of updates and in the store."""

from __future__ import annotations

import hashlib

import msgspec

from streams.records import Judgement


def identity_of(judgement: Judgement) -> str:
    """Return 16 hexadecimal digits: a hash of query, item, content, teacher and prompt.

    Raises UnicodeEncodeError for text with lone surrogates, from which nothing can be learned.
    """
    key = (
        judgement.query,
        judgement.item_id,
        judgement.content_hash,
        judgement.teacher_id,
        judgement.prompt_hash,
    )
    return hashlib.blake2b(msgspec.json.encode(key), digest_size=8).hexdigest()
