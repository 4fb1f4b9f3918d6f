"""The prompt: policy and subtasks first, so that every request shares its beginning, the pair last.

The query and the item are strangers' text. They are cleaned, stand between tags that they cannot write (angle
brackets and bars become look-alikes, one for one, so that offsets stay), and never reach the system message.
An answer goes through the query from left to right, one line a wish, `words of the query | subtask | words of the
item | verdict`, then `grade: label`. Reading in order and naming the subtask after its words is what lets a small
model miss no wish.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

from teacher.policy import Policy

#: Raise it when the wording below changes in a way that the hash could not see.
FORM = 2
NOTHING = "-"
#: Lines of a chain at most; a query of 200 characters does not hold more wishes.
MAX_LINES = 12
#: Characters of a quotation at most.
MAX_WORDS_CHARS = 80
_FENCED = str.maketrans("<>|", "‹›¦")
_UNFENCED = str.maketrans("‹›¦", "<>|")


class Mode(StrEnum):
    """One pass writes the chain and the grade; score only writes the grade."""

    CHAIN = "chain"
    SCORE = "score"


def fence(text: str) -> str:
    """Return text that holds no tag, no special token and no column bar; every character keeps its place.

    >>> fence("mug</item> <|im_end|> 1|2")
    'mug‹/item› ‹¦im_end¦› 1¦2'
    """
    return text.translate(_FENCED)


def unfence(text: str) -> str:
    """Return quoted words as they may stand in the original."""
    return text.translate(_UNFENCED)


def system_message(policy: Policy, mode: Mode) -> str:
    """Return what is the same for all pairs."""
    grades = "\n".join(f"{grade.label} {grade.name}: {grade.means}" for grade in policy.grades)
    if mode is Mode.SCORE:
        return f"{policy.task.strip()}\nAnswer with one grade and nothing else.\n{grades}"
    subtasks = "\n".join(f"{subtask.name}: {subtask.asks}" for subtask in policy.subtasks)
    return (
        f"{policy.task.strip()}\n"
        "Go through the query from left to right, one line for each wish of these kinds:\n"
        f"{subtasks}\n"
        "A line is the words of the query, a bar, the kind, a bar, the words of the item, a bar, the verdict: "
        "match, mismatch, or unstated if the item does not say. Quote exactly, from the item's named fields rather "
        f"than its title; {NOTHING} stands for no words.\n"
        "Then the last line, grade and one letter:\n"
        f"{grades}{_example(policy)}"
    )


def _example(policy: Policy) -> str:
    if policy.example is None:
        return ""
    shown = policy.example
    return f"\nAn example:\n{user_message(shown.query.strip(), shown.item.strip())}\n{shown.answer.strip()}"


def user_message(query: str, item_text: str) -> str:
    """Return the pair's part. Both texts are cleaned ones: see `streams.item_text`."""
    return f"<query>\n{fence(query)}\n</query>\n<item>\n{fence(item_text)}\n</item>"


def messages(policy: Policy, mode: Mode, query: str, item_text: str) -> list[dict[str, str]]:
    """Return the chat to send."""
    return [
        {"role": "system", "content": system_message(policy, mode)},
        {"role": "user", "content": user_message(query, item_text)},
    ]


def prompt_hash(policy: Policy, mode: Mode, *, max_tokens: int, temperature: float, samples: int = 1) -> str:
    """Return the name of everything that shapes an answer, the model apart: 12 hexadecimal digits."""
    parts = (
        FORM,
        mode.value,
        system_message(policy, mode),
        user_message("{query}", "{item}"),
        answer_form(policy, mode),
        max_tokens,
        temperature,
        samples,
        sorted(policy.gains.items()),
    )
    return hashlib.blake2b(repr(parts).encode(), digest_size=6).hexdigest()


def answer_form(policy: Policy, mode: Mode) -> str:
    """Return the regular expression that every answer meets, for structured output.

    Quotations are short and hold no bar; there are at most `MAX_LINES` lines.
    """
    labels = "|".join(policy.labels)
    if mode is Mode.SCORE:
        return f"({labels})"
    words = rf"[^|\n ][^|\n]{{0,{MAX_WORDS_CHARS - 1}}}"
    names = "|".join(subtask.name for subtask in policy.subtasks)
    line = rf"{words} \| ({names}) \| {words} \| (match|mismatch|unstated)\n"
    return rf"({line}){{0,{MAX_LINES}}}grade: ({labels})"
