"""`relevance students`: the small models that score pairs in milliseconds. One file a command."""

from __future__ import annotations

import importlib

import click

#: Commands by name, and the module that holds each one under its own name.
COMMANDS = {
    name: name
    for name in (
        "train",
        "evaluate",
        "ablate",
        "publish",
        "promote",
        "rollback",
        "follow",
        "accept",
        "rebuild",
    )
} | {"list": "versions"}


class Commands(click.Group):
    """Loads a command when it is asked for: other commands need not wait for torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of their use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"{__name__}.{module}"), module)
        return command


@click.group(cls=Commands)
def students() -> None:
    """The students: small models taught by the teacher's judgements.

    \b
    relevance students train       train one on judgements, on people's grades, or both
    relevance students evaluate    measure one on graded pairs, against another or the teacher
    relevance students ablate      find what score distribution and chain of thought are worth
    relevance students publish     serve one beside the others
    relevance students promote     make a served one the champion
    relevance students rollback    go back to the champion before
    relevance students list        show all versions and who serves whom
    relevance students follow      train on judgements as they come, publish what passes the gate
    relevance students accept      learn after all from judgements that a guard has set aside
    relevance students rebuild     make a version again from the log of judgements
    """
