"""`relevance experiment report`: the online experiment's result in the terminal."""

from __future__ import annotations

import time
from contextlib import closing

import click
import msgspec

from ops.cli import dashboard_client
from ops.cli.context import CommandError, Context, pass_context, printable
from ops.clickhouse.client import ClickHouseUnavailableError, open_client
from ops.experiments.report import ExperimentReport, experiment_report, render_text
from ops.settings import Settings
from ops.stack import run_lock


@click.group()
def experiment() -> None:
    """The online experiment: what it has shown so far."""


@experiment.command(
    epilog="\b\nExamples:\n  relevance experiment report\n  relevance experiment report --json | jq .state"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_context
def report(context: Context, as_json: bool) -> None:
    """Print CTR, CVR and revenue by arm with their intervals, asked of the running stack or of the store."""
    found = fetch(context.settings())
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return
    for line in render_text(found).splitlines():
        context.console.print(printable(line))


def fetch(settings: Settings) -> ExperimentReport:
    """Return the report of the dashboard, or without a running stack one computed from the store."""
    if run_lock.holder(settings.run_dir):
        return msgspec.convert(dashboard_client.get(settings, "/api/experiment"), ExperimentReport)
    try:
        with closing(open_client(settings)) as client:
            return experiment_report(client, settings, now_ms=time.time_ns() // 1_000_000)
    except ClickHouseUnavailableError as error:
        raise CommandError(str(error)) from error
