"""Strangers' bytes to texts, within limits: what cannot be read is refused, by name, and harms no other request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.item_text import MAX_TITLE_CHARS, clean, query_text

#: An item text has a title and some attributes; lines beyond this many say nothing.
MAX_LINES = 32


class RefusedError(ValueError):
    """A request is not what the model takes. The message says what was expected and what came."""


@dataclass(frozen=True, slots=True)
class TextLimits:
    """Items at most in a request, and bytes at most of one text."""

    items: int
    text_bytes: int

    @classmethod
    def of(cls, model_config: Mapping[str, Any]) -> TextLimits:
        """Read the parameters `max_items` and `max_text_bytes` of a model's configuration. Raises KeyError."""
        return cls(int(parameter(model_config, "max_items")), int(parameter(model_config, "max_text_bytes")))

    def check_items(self, count: int) -> None:
        """Raise RefusedError for no items or too many."""
        if not 1 <= count <= self.items:
            raise RefusedError(f"expected 1 to {self.items} items in a request, got {count}")

    def read(self, values: Iterable[bytes], what: str) -> list[str]:
        """Return texts of BYTES elements. Raises RefusedError for one that is too long or no UTF-8."""
        texts = []
        for place, value in enumerate(values):
            if len(value) > self.text_bytes:
                raise RefusedError(
                    f"expected {what} {place} of at most {self.text_bytes} bytes, got {len(value)}"
                )
            try:
                texts.append(value.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise RefusedError(
                    f"expected {what} {place} in UTF-8: {error.reason} at byte {error.start}"
                ) from None
        return texts


def parameter(model_config: Mapping[str, Any], name: str) -> str:
    """Return a parameter of a model's configuration. Raises KeyError."""
    value: str = model_config["parameters"][name]["string_value"]
    return value


def queries_of(tensor: npt.NDArray[np.object_], limits: TextLimits) -> list[str]:
    """Return the cleaned queries, one for each row of QUERY [B, 1]. Raises RefusedError."""
    return [query_text(text) for text in limits.read(tensor.ravel().tolist(), "query")]


def items_of(tensor: npt.NDArray[np.object_], limits: TextLimits) -> list[list[str]]:
    """Return the cleaned item texts of each row of ITEM_TEXT [B, n]. Raises RefusedError."""
    limits.check_items(tensor.shape[1])
    return [[clean_item(text) for text in limits.read(row.tolist(), "item text")] for row in tensor]


def clean_item(text: str) -> str:
    """Return an item text line by line as `streams.item_text.item_text` makes it; a text made there stays as it is.

    >>> clean_item("Nova  mug\\nbrand: Nova")
    'Nova mug\\nbrand: Nova'
    """
    return "\n".join(
        clean(line, max_chars=MAX_TITLE_CHARS) for line in text.split("\n", MAX_LINES)[:MAX_LINES]
    )
