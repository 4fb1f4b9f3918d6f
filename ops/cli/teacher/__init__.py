"""`relevance teacher`: the LLM that judges pairs with a chain of thought. One file a command."""

from __future__ import annotations

import importlib

import click

COMMANDS = ("serve", "judge", "work", "annotate", "finetune", "evaluate")


class Commands(click.Group):
    """Loads a command when it is asked for: other commands need not wait for the teacher's libraries."""

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
def teacher() -> None:
    """The teacher: an LLM that judges pairs with a chain of thought.

    \b
    relevance teacher serve       start vLLM with the small fine-tuned model, or with yours
    relevance teacher judge       judge one pair, or a file of them
    relevance teacher work        judge what is sampled, until Ctrl-C
    relevance teacher annotate    have two LLMs label pairs to learn from
    relevance teacher finetune    teach an open model on labelled pairs
    relevance teacher evaluate    compare the teacher with people
    """
