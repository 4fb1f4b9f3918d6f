"""The grade as a distribution: read from the log-probabilities of the one token in which an answer's label begins.

The distribution is the softmax over the labels alone; the relevance score is its expectation under the grades'
gains, which for Yes (1) and No (0) is p(Yes) / (p(Yes) + p(No)).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

#: What may stand before a label inside its token: "grade: E" usually ends in the token " E". Some servers show
#: a leading blank as the second character.
BLANKS = " \u2581"


class ScoringError(ValueError):
    """The log-probabilities do not say how likely the labels are. The message says what is missing."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A generated token. `top` maps the likeliest tokens at its place, and itself, to natural log-probabilities."""

    text: str
    top: dict[str, float]


def log_sum(values: Iterable[float]) -> float:
    """Return the logarithm of the summed probabilities, -inf for none.

    >>> round(math.exp(log_sum([math.log(0.2), math.log(0.3)])), 12)
    0.5
    """
    held = list(values)
    largest = max(held, default=-math.inf)
    if largest == -math.inf:
        return -math.inf
    return largest + math.log(math.fsum(math.exp(value - largest) for value in held))


def grade_distribution(logprobs: Mapping[str, float], labels: Sequence[str]) -> dict[str, float]:
    """Return each label's probability given that the token is one of the labels; they sum to 1.

    `logprobs` maps tokens to natural log-probabilities, <= 0, as a server returns them for one place. A label's
    forms with and without a leading blank are one. A label that was not returned is less likely than all that
    were, so it is given the smallest log-probability returned: an upper bound.

    Raises ScoringError if a value is not a number, or if the bound for a missing label reaches the likeliest
    label: then nothing says which is which.

    >>> grade_distribution({"Yes": math.log(0.6), " Yes": math.log(0.15), "No": math.log(0.05)}, ["Yes", "No"])
    {'Yes': 0.9375, 'No': 0.0625}
    """
    if not logprobs or any(math.isnan(value) or value == math.inf for value in logprobs.values()):
        raise ScoringError(f"expected a log-probability for each token, got {dict(logprobs)}")
    floor = min(logprobs.values())
    found = {
        label: log_sum(value for token, value in logprobs.items() if _names(token, label)) for label in labels
    }
    likeliest = max(found.values())
    missing = [label for label, value in found.items() if value == -math.inf]
    if likeliest == -math.inf or (missing and likeliest <= floor):
        raise ScoringError(
            f"expected the labels {', '.join(labels)} among the {len(logprobs)} likeliest tokens, "
            f"got {', '.join(map(repr, list(logprobs)[:8]))}"
        )
    weights = {
        label: math.exp((floor if label in missing else value) - likeliest) for label, value in found.items()
    }
    total = math.fsum(weights.values())
    return {label: weight / total for label, weight in weights.items()}


def _names(token: str, label: str) -> bool:
    return token == label or (token[1:] == label and token[0] in BLANKS)


def relevance_score(grades: Mapping[str, float], gains: Mapping[str, float]) -> float:
    """Return the expectation of the gains, in [0, 1] as they are. Raises ScoringError for a label without gain.

    >>> relevance_score({"Yes": 0.9375, "No": 0.0625}, {"Yes": 1.0, "No": 0.0})
    0.9375
    """
    if unknown := sorted(set(grades) - set(gains)):
        raise ScoringError(f"expected a gain for each grade, none for {', '.join(unknown)}")
    return min(1.0, max(0.0, math.fsum(share * gains[label] for label, share in grades.items())))


def label_place(tokens: Sequence[str], label: str, *, after: str) -> int | None:
    """Return the index of the token in which the answer's last `label` begins, None if there is none.

    `after` is what stands before the label, blanks apart ("grade:"), empty if the label is the whole answer.
    Tokens behind the label, such as an end-of-turn token that the text does not show, are passed over.

    >>> label_place(["size", ": ", "grade", ":", " ", "E", "<end>"], "E", after="grade:")
    5
    """
    text = "".join(tokens)
    start = len(text)
    for place in range(len(tokens) - 1, -1, -1):
        start -= len(tokens[place])
        rest = text[start : start + len(label) + 1].lstrip(BLANKS)
        if rest.startswith(label) and tokens[place].strip(BLANKS):
            before = text[:start].rstrip(BLANKS + "\n")
            if before.endswith(after) if after else not before:
                return place
    return None


def read_grades(
    tokens: Sequence[Token], *, written: str, labels: Sequence[str], after: str
) -> dict[str, float]:
    """Return the grade distribution of an answer whose label is `written`; `after` as in `label_place`.

    Raises ScoringError if the tokens do not hold the label, or their log-probabilities do not tell the labels.
    """
    place = label_place([token.text for token in tokens], written, after=after)
    if place is None:
        raise ScoringError(
            f"expected the tokens of an answer that ends in {after} {written}, got {len(tokens)}"
        )
    return grade_distribution(tokens[place].top, labels)
