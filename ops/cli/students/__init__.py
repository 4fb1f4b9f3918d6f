"""`relevance students`: the small models that score pairs in milliseconds. One file a command."""

from __future__ import annotations

import importlib

import click

COMMANDS = ("train", "evaluate", "ablate")


class Commands(click.Group):
    """Loads a command when it is asked for: other commands need not wait for torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of their use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return command


@click.group(cls=Commands)
def students() -> None:
    """The students: small models taught by the teacher's judgements.

    \b
    relevance students train       train one on judgements, on people's grades, or both
    relevance students evaluate    measure one on graded pairs, against another or the teacher
    relevance students ablate      find what score distribution and chain of thought are worth
    """
