"""The tags of a token: outside of all evidence, or beginning / inside of evidence that matches or clashes (BIO)."""

from __future__ import annotations

TAGS = ("O", "B-match", "I-match", "B-mismatch", "I-mismatch")
OUTSIDE = TAGS.index("O")
#: Tags of the tokens that begin and continue evidence of a verdict.
OF_VERDICT = {
    "match": (TAGS.index("B-match"), TAGS.index("I-match")),
    "mismatch": (TAGS.index("B-mismatch"), TAGS.index("I-mismatch")),
}
#: The target of tokens that no loss shall see: padding, special ones, conflicts, pairs without a chain.
IGNORED = -100
