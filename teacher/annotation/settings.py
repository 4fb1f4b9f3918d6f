"""Who annotates, how often, and what counts: a TOML file, with options of the command over it.

```toml
samples = 5
temperature = 0.7
person_disagrees = "review"

[[annotators]]
name = "qwen"
url = "https://one.example/v1"
model = "Qwen2.5-72B-Instruct"
api_key_variable = "QWEN_KEY"
usd_per_million_prompt_tokens = 0.4

[arbiter]
name = "third"
url = "https://three.example/v1"
model = "another"
```
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from ops.settings import Section, Share
from teacher.annotation.rule import WhenPersonDisagrees

_ANNOTATOR = re.compile(r"(?P<name>[^=]*)=(?P<url>[^#]*)#(?P<model>.+)")


class AnnotationSettingsError(ValueError):
    """The plan or an option cannot be used. The message says what was expected and what came."""


class Annotator(Section):
    """An OpenAI-compatible endpoint and the model that answers there. `url` may list several, by commas."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")
    url: str
    model: str = Field(min_length=1)
    api_key_variable: str = Field("", description="environment variable that holds the key; empty: none")
    concurrency: int | None = Field(None, ge=1, le=4096, description="requests in flight")
    usd_per_million_prompt_tokens: float = Field(0.0, ge=0)
    usd_per_million_completion_tokens: float = Field(0.0, ge=0)

    @field_validator("name")
    @classmethod
    def _not_person(cls, value: str) -> str:
        if value == "person":
            raise ValueError("'person' stands for people's grades: choose another name")
        return value

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        for url in value.split(","):
            if not url.strip().startswith(("http://", "https://")):
                raise ValueError(f"expected http(s)://host:port/v1[,more], got {url.strip()!r}")
        return value

    def api_key(self, environment: Mapping[str, str] = os.environ) -> str:
        """Return the key, empty for none. Raises AnnotationSettingsError if the variable is not set."""
        if not self.api_key_variable:
            return ""
        if not (key := environment.get(self.api_key_variable)):
            raise AnnotationSettingsError(
                f"annotator {self.name}: expected its key in {self.api_key_variable}, which is not set"
            )
        return key


class Annotation(Section):
    """An annotation. `samples` are the answers asked of each annotator a pair."""

    annotators: list[Annotator] = Field(min_length=2)
    arbiter: Annotator | None = None
    samples: int = Field(3, ge=1, le=64)
    temperature: float = Field(0.7, ge=0, le=2)
    self_agreement: Share = Field(0.6, description="least share of an annotator's samples with its grade")
    person_disagrees: WhenPersonDisagrees = WhenPersonDisagrees.REVIEW

    @model_validator(mode="after")
    def _fits(self) -> Annotation:
        names = [each.name for each in self.everyone]
        if len(set(names)) != len(names):
            raise ValueError(f"expected every name once, got {', '.join(names)}")
        served = [(each.url, each.model) for each in self.everyone]
        if len(set(served)) != len(served):
            raise ValueError(
                "expected different models: two of these are the same model at the same endpoint"
            )
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                "expected a temperature above 0 with several samples: at 0 they are all the same"
            )
        return self

    @property
    def everyone(self) -> list[Annotator]:
        """Return annotators, then the arbiter if there is one."""
        return [*self.annotators, *([self.arbiter] if self.arbiter else [])]


def parse_annotator(text: str) -> dict[str, str]:
    """Read `NAME=URL#MODEL`. Raises AnnotationSettingsError.

    >>> parse_annotator("qwen=http://host:8000/v1#Qwen2.5-72B-Instruct")
    {'name': 'qwen', 'url': 'http://host:8000/v1', 'model': 'Qwen2.5-72B-Instruct'}
    """
    if not (match := _ANNOTATOR.fullmatch(text)):
        raise AnnotationSettingsError(f"expected NAME=URL#MODEL, got {text!r}")
    return match.groupdict()


def load(
    plan: Path | None,
    *,
    annotators: Sequence[str] = (),
    arbiter: str | None = None,
    given: Mapping[str, Any] | None = None,
) -> Annotation:
    """Read the plan, and lay over it annotators and arbiter (`NAME=URL#MODEL`; those of the same name as in the
    plan keep its other settings) and what else was `given`, None left out.

    Raises AnnotationSettingsError that names every wrong or unknown setting.
    """
    merged: dict[str, Any] = _read(plan) if plan else {}
    if annotators:
        merged["annotators"] = [_over(merged.get("annotators"), text) for text in annotators]
    if arbiter:
        merged["arbiter"] = _over([merged.get("arbiter")], arbiter)
    merged |= {name: value for name, value in (given or {}).items() if value is not None}
    try:
        return Annotation.model_validate(merged)
    except ValidationError as error:
        where = f" (in {plan})" if plan else ""
        lines = [
            f"{'.'.join(map(str, each['loc'])) or 'all'}{where}: {each['msg']}" for each in error.errors()
        ]
        raise AnnotationSettingsError(
            "wrong annotation settings:\n  "
            + "\n  ".join(lines)
            + "\ngive at least two `--annotator NAME=URL#MODEL`, or a plan"
        ) from None


def _over(planned: object, text: str) -> dict[str, Any]:
    option = parse_annotator(text)
    tables = planned if isinstance(planned, list) else []
    same = (each for each in tables if isinstance(each, dict) and each.get("name") == option["name"])
    return {**next(same, {}), **option}


def _read(plan: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(plan.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise AnnotationSettingsError(f"plan {plan} cannot be read: {error}") from error
