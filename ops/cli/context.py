"""What every command shares: where output goes, which settings hold."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
from rich.cells import cell_len
from rich.console import Console

from ops.settings import Settings, load


class CommandError(RuntimeError):
    """A command can't do what it was asked; the message is for people."""


@dataclass(slots=True)
class Context:
    """Options given before the command's name."""

    run_dir: Path | None = None
    debug: bool = False
    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True, markup=False))

    def environment(self, given: Mapping[str, object] | None = None) -> dict[str, str]:
        """Return the environment with options laid over it as RELEVANCE_* variables, None left out."""
        environment = dict(os.environ)
        for name, value in (given or {}).items():
            if value is not None:
                environment[f"RELEVANCE_{name}"] = str(value)
        if self.run_dir is not None:
            environment["RELEVANCE_RUN_DIR"] = str(self.run_dir)
        # Parts, leftovers and commands recognise a run directory by its full path.
        environment["RELEVANCE_RUN_DIR"] = str(load(environment).run_dir.expanduser().resolve())
        return environment

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print columns as wide as their content, whatever the terminal: lines stay whole for grep and cut."""
        cells = [list(headings), *([printable(str(cell)) for cell in row] for row in rows)]
        widths = [max(cell_len(row[number]) for row in cells) for number in range(len(headings))]
        for row in cells:
            padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
            self.console.print("  ".join(padded).rstrip())

    def settings(self) -> Settings:
        """Load the settings. Raises SettingsError."""
        return load(self.environment())

    def set_up_logging(self) -> None:
        """Keep libraries quiet: what matters reaches the user as an error of a command."""
        if self.debug:
            logging.basicConfig(level=logging.DEBUG)
        else:
            logging.getLogger().addHandler(logging.NullHandler())


pass_context = click.make_pass_decorator(Context, ensure=True)


def printable(text: str) -> str:
    """Return text of strangers fit for a terminal: control and format characters become visible escapes.

    >>> printable("red \\x1b[31mshoes\\u202e")
    'red \\\\x1b[31mshoes\\\\u202e'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
