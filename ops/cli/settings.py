"""`relevance settings`: every setting, its value, and how to set it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
from pydantic import SecretStr

from ops.cli.context import Context, pass_context, printable
from ops.settings import PREFIX, Section, Settings


@dataclass(frozen=True, slots=True)
class Row:
    """One setting. `name` is its path in relevance.toml, `variable` its environment variable."""

    name: str
    variable: str
    value: str
    default: str
    description: str


def rows(settings: Section, defaults: Section, path: tuple[str, ...] = ()) -> Iterator[Row]:
    """Walk through all settings; secrets are shown as `(set)` or `(empty)`."""
    for name, field in type(settings).model_fields.items():
        value, default = getattr(settings, name), getattr(defaults, name)
        keys = (*path, name)
        if isinstance(value, Section):
            yield from rows(value, default, keys)
        else:
            variable = PREFIX + "__".join(keys).upper()
            yield Row(".".join(keys), variable, shown(value), shown(default), field.description or "")


def shown(value: Any) -> str:
    """Return a value as a person may see it.

    >>> shown(SecretStr("hunter2")), shown(None), shown(0.5)
    ('(set)', '', '0.5')
    """
    if isinstance(value, SecretStr):
        return "(set)" if value.get_secret_value() else "(empty)"
    if value is None:
        return ""
    text = str(value)
    # The password of an address like https://user:password@host.
    if "://" in text and "@" in text:
        scheme, _, rest = text.partition("://")
        user, _, host = rest.rpartition("@")
        return f"{scheme}://{user.partition(':')[0]}:(hidden)@{host}"
    return text


@click.command(epilog="\b\nExamples:\n  relevance settings\n  relevance settings --changed")
@click.option("--changed", is_flag=True, help="Only those that differ from their default.")
@pass_context
def settings(context: Context, changed: bool) -> None:
    """Print every setting with its value, its default and the environment variable that sets it."""
    values = context.settings()
    defaults = Settings(run_dir=Settings().run_dir.resolve())
    for row in rows(values, defaults):
        if row.value == row.default and changed:
            continue
        told = [row.variable]
        if row.value != row.default:
            told.append(f"default {row.default or '(empty)'}")
        if row.description:
            told.append(row.description)
        context.console.print(printable(f"{row.name} = {row.value}"))
        context.console.print(printable(f"    {'; '.join(told)}"))
