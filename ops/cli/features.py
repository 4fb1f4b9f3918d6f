"""`relevance features`: the feature store's upkeep, and Feast's own command on the store of the settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

import feature_store
from ops.cli.context import CommandError, Context, pass_context
from ops.settings import load

REPOSITORY = Path(feature_store.__file__).parent / "feature_repo"
#: `python -m feast` does not exist; this is what its console script runs.
FEAST = "from feast.cli.cli import cli; cli()"


@click.group()
def features() -> None:
    """The feature store: definitions, pushes and reads lie in feature_store/.

    \b
    relevance features rebuild         make the online store anew from the offline store
    relevance features feast apply     Feast's own commands, on the store of the settings
    """


@features.command(epilog="\b\nExamples:\n  relevance features rebuild")
@pass_context
def rebuild(context: Context) -> None:
    """Make the online store anew from what the offline store holds; readers need not stop."""
    from feature_store.online import OnlineStoreError
    from feature_store.rebuild import rebuild_online

    settings = load(context.environment())
    try:
        written = rebuild_online(settings)
    except OnlineStoreError as error:
        raise CommandError(str(error)) from error
    context.table(("view", "rows"), sorted(written.items()))


@features.command(
    epilog="\b\nExamples:\n  relevance features feast apply\n  relevance features feast ui --port 8888",
    context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]},
)
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED)
@pass_context
def feast(context: Context, arguments: tuple[str, ...]) -> None:
    """Run `feast ARGUMENTS` in the Feast repository, on the store of these settings."""
    from feature_store.store import feast_environment

    environment = context.environment()
    done = subprocess.run(
        [sys.executable, "-c", FEAST, *arguments],
        cwd=REPOSITORY,
        env=os.environ | environment | feast_environment(load(environment)),
        check=False,
    )
    if done.returncode:
        raise CommandError(f"feast {' '.join(arguments)} ended with exit status {done.returncode}")
