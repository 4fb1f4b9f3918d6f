"""What the teacher is asked, as data: subtasks, grades and their gains. A shop adds its own in its settings.

The default is `policy.toml` beside this file, the four grades of the Amazon Shopping Queries data set (Reddy et
al. 2022, arXiv 2206.06588) with the gains it ranks by. `YES_NO` is the binary case.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from ops.settings import Teacher as TeacherSettings

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
#: Labels stand for one token each, so they are short; anything else would need escaping in the answer's form.
_LABEL = re.compile(r"[A-Za-z0-9]{1,12}")


class PolicyError(ValueError):
    """A policy cannot be used. The message says what was expected, what came, and where."""


class Verdict(StrEnum):
    """What a subtask found: the item meets the wish, contradicts it, or does not say."""

    MATCH = "match"
    MISMATCH = "mismatch"
    UNSTATED = "unstated"


class Subtask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One question about a pair. `asks` is the line of the prompt that explains it."""

    name: str
    asks: str


class Grade(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A level of the relevance scale. `label` is what the teacher writes, `gain` in [0, 1] what it is worth."""

    label: str
    name: str
    gain: float
    means: str


class Example(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pair with its answer, shown in the prompt; `item` is an item text, `answer` names no unknown subtask."""

    query: str
    item: str
    answer: str


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The task, its subtasks in order, the grades from best to worst, and an example on that scale."""

    task: str
    example: Example | None = None
    subtasks: tuple[Subtask, ...]
    grades: tuple[Grade, ...]

    def __post_init__(self) -> None:
        """Raise PolicyError for anything that could not be asked or read back."""
        _unique("subtask", [subtask.name for subtask in self.subtasks], _NAME)
        _unique("grade", [grade.label for grade in self.grades], _LABEL)
        if len(self.grades) < 2:
            raise PolicyError(f"expected at least two grades, got {len(self.grades)}")
        if any(subtask.name == "grade" for subtask in self.subtasks):
            raise PolicyError("a subtask cannot be called 'grade': the answer's last line is")
        for grade in self.grades:
            if not 0 <= grade.gain <= 1:
                raise PolicyError(f"grade {grade.label!r}: expected a gain from 0 to 1, got {grade.gain}")
        gains = [grade.gain for grade in self.grades]
        if gains != sorted(gains, reverse=True) or gains[0] == gains[-1]:
            raise PolicyError(f"expected grades from best to worst by gain, got gains {gains}")

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the grades' labels, best first."""
        return tuple(grade.label for grade in self.grades)

    @property
    def gains(self) -> dict[str, float]:
        """Return each label's gain."""
        return {grade.label: grade.gain for grade in self.grades}

    def with_subtasks(self, extra: Sequence[Subtask]) -> Policy:
        """Return the policy with more subtasks, after its own. Raises PolicyError for a name that is taken."""
        return msgspec.structs.replace(self, subtasks=(*self.subtasks, *extra))

    def with_grades(self, grades: Sequence[Grade]) -> Policy:
        """Return the policy on another scale, without the example, which ends in a grade of the old one."""
        return msgspec.structs.replace(self, grades=tuple(grades), example=None)


#: The binary case: the score is p(Yes) / (p(Yes) + p(No)).
YES_NO = (
    Grade(label="Yes", name="relevant", gain=1.0, means="what the shopper asked for"),
    Grade(label="No", name="irrelevant", gain=0.0, means="anything else"),
)


def _unique(what: str, names: Sequence[str], form: re.Pattern[str]) -> None:
    for name in names:
        if not form.fullmatch(name):
            raise PolicyError(f"expected a {what} of the form {form.pattern}, got {name!r}")
    if len(set(names)) != len(names):
        raise PolicyError(f"expected every {what} once, got {', '.join(names)}")


def load(path: Path) -> Policy:
    """Read a policy. Raises PolicyError for a file that is missing or says something else."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Policy)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise PolicyError(f"{path}: {error}") from error


def configured(settings: TeacherSettings) -> Policy:
    """Return the policy that the settings ask for. Raises PolicyError.

    A shop's subtasks come after the policy's own; its grades replace them.
    """
    chosen = load(settings.policy) if settings.policy else default()
    if settings.grades:
        chosen = chosen.with_grades([Grade(**grade.model_dump()) for grade in settings.grades])
    return chosen.with_subtasks([Subtask(**subtask.model_dump()) for subtask in settings.subtasks])


@functools.cache
def default() -> Policy:
    """Return the policy that comes with the project."""
    return load(Path(__file__).with_name("policy.toml"))
