"""`relevance features`: how the feature store is doing, what it holds, its audit, its upkeep, and Feast's own command
on the store of the settings."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

import feature_store
from ops.cli import dashboard_client
from ops.cli.context import CommandError, Context, pass_context, printable
from ops.settings import Settings, load
from ops.stack import run_lock

if TYPE_CHECKING:
    from ops.features_audit import AuditedReads

REPOSITORY = Path(feature_store.__file__).parent / "feature_repo"
#: `python -m feast` does not exist; this is what its console script runs.
FEAST = "from feast.cli.cli import cli; cli()"
HOUR_MS = 3_600_000
DEFAULT_SEARCHES = 20_000
DEFAULT_KEYS = 5_000
SHOWN_EXAMPLES = 5
#: Of a row, which may hold a vector.
SHOWN_CHARS = 300


@click.group()
def features() -> None:
    """The feature store: definitions, pushes and reads lie in feature_store/.

    \b
    relevance features status          what it holds, how far pushes are behind, the last audit
    relevance features read mug sku-1  a pair's engagement and an item's content, as serving reads them now
    relevance features audit           does training read what serving read? exit code 1 if not
    relevance features push            query statistics and shoppers' history from ClickHouse into the store
    relevance features rebuild         make the online store anew from the offline store
    relevance features feast apply     Feast's own commands, on the store of the settings
    """


@features.command(
    epilog="\b\nExamples:\n  relevance features status\n  relevance features status --json | jq .lag"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_context
def status(context: Context, as_json: bool) -> None:
    """Show what the running stack's feature store holds, its lag, the last hour's reads and the last audit."""
    found = dashboard_client.get(context.settings(), "/api/features")["value"]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return
    for line in status_lines(found, now_ms=time.time() * 1000):
        context.console.print(printable(line))


def status_lines(found: dict[str, Any], *, now_ms: float) -> list[str]:
    """Return the overview of the API in lines for people."""
    lines = []
    part, lag, reads = found["part"], found["lag"], found["reads"]
    if part is None:
        lines.append("the part features has never given a sign of life")
    else:
        counters = part["counters"]
        lines.append(f"features {part['state']}: {part['detail']}")
        for name in sorted(counters):
            if name.startswith("history_"):
                view = name.removeprefix("history_")
                newest_ms = counters.get(f"newest_ms_{view}")
                age = f", newest {(now_ms - newest_ms) / 1000:,.0f} s old" if newest_ms else ""
                lines.append(f"  {view:<17} {counters[name]:>12,.0f} rows{age}")
    behind = "unknown" if lag is None or lag["records"] is None else f"{lag['records']:,} records"
    lines.append(f"pushes behind: {behind}")
    degraded = reads["unanswered"] / reads["reads"] if reads["reads"] else 0.0
    lines.append(
        f"read in the last hour: {reads['reads']:,} pairs, {reads['known']:,} with engagement, "
        f"{reads['unanswered']:,} without an answer ({degraded:.1%})"
    )
    if found["audits"]:
        at_ms = found["audits"][0]["at_ms"]
        lines.append(f"last audit {(now_ms - at_ms) / 1000:,.0f} s ago:")
        lines += [
            f"  {view['view']:<18} {view['equal']:>11,} equal, {view['different']:,} different"
            for view in found["audits"]
            if view["at_ms"] == at_ms
        ]
    else:
        lines.append("never audited: relevance features audit")
    return lines


@features.command(
    epilog="\b\nExamples:\n  relevance features audit\n  relevance features audit --hours 1 --searches 5000 --seed 3"
)
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), default=24.0, show_default=True)
@click.option(
    "--searches",
    type=click.IntRange(min=0),
    default=DEFAULT_SEARCHES,
    show_default=True,
    help="Audit a random sample of so many searches; 0: all.",
)
@click.option(
    "--keys",
    type=click.IntRange(min=1),
    default=DEFAULT_KEYS,
    show_default=True,
    help="Audit a random sample of so many keys of each other view.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Draws the sample."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_context
def audit(context: Context, hours: float, searches: int, keys: int, seed: int, as_json: bool) -> None:
    """Compare what serving read of the feature store, as logged with its exposures, with what the historical query
    returns for the same moments; what the online store holds of the other views with history; item vectors beside
    their version with the store's; query vectors as served with those of the version's own graph. The exit code is 1
    if anything differs."""
    settings = context.settings()
    last_ms = time.time_ns() // 1_000_000
    bounds = {"first_ms": last_ms - int(hours * HOUR_MS), "last_ms": last_ms, "seed": seed}
    found = run_audit(settings, searches=searches, keys=keys, **bounds)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        for line in audit_lines(found):
            context.console.print(printable(line))
    if any(view.different for view in found):
        raise SystemExit(1)


def run_audit(
    settings: Settings, *, searches: int, keys: int, first_ms: int, last_ms: int, seed: int
) -> list[AuditedReads]:
    """Audit with the running stack, or without one on the stores themselves, keep the results and return them, one a
    view. Raises CommandError if there is nothing to compare or a store can't be read."""
    from ops import features_audit
    from ops.clickhouse.client import ClickHouseUnavailableError
    from ops.clickhouse.publishing import connected, publish
    from ops.dashboard.feature_queries import ReadSearch

    def compare(ask: features_audit.Ask, total: int) -> list[AuditedReads]:
        sample = features_audit.sample(ask, searches=searches)
        results = features_audit.audit_stored(
            settings, queries=[search.normalised_query for search in sample], keys=keys, seed=seed
        )
        if sample:
            results.insert(0, features_audit.audit_reads(settings, sample, of=total, seed=seed))
        if not any(result.reads for result in results):
            raise CommandError(
                "no search of this time has logged what it read of the feature store, and the store is empty"
            )
        return results

    if run_lock.holder(settings.run_dir):
        given = f"first_ms={first_ms}&last_ms={last_ms}&seed={seed}"
        total = dashboard_client.get(settings, f"/api/feature-reads?{given}&limit=1")["total"]

        def asked(after: int) -> list[ReadSearch]:
            answer = dashboard_client.get(settings, f"/api/feature-reads?{given}&after={after}")
            return msgspec.convert(answer["searches"], list[ReadSearch])

        found = compare(asked, total)
        with connected(settings) as client:
            at_ms = time.time_ns() // 1_000_000
            publish(client, "feature_audits", [result.row(at_ms=at_ms) for result in found])
        return found
    try:
        with features_audit.own_store(settings, first_ms=first_ms, last_ms=last_ms, seed=seed) as (
            total,
            ask,
            keep,
        ):
            found = compare(ask, total)
            keep(found)
    except ClickHouseUnavailableError as error:
        raise CommandError(str(error)) from error
    return found


def audit_lines(found: Sequence[AuditedReads]) -> list[str]:
    """Return an audit's results in lines for people: what was compared, each view, the first differences."""
    lines = []
    for view in found:
        of = f"{view.searches:,} searches, " if view.searches else ""
        lines.append(f"{view.view}: {of}{view.reads:,} reads ({view.share:.1%} of those there are)")
        if not view.reads:
            continue
        lines.append(
            f"  parity {parity_of(view.equal, view.different)}: {view.equal + view.different:,} compared, "
            f"{view.equal:,} equal, {view.different:,} different"
        )
        lines.append(f"  not comparable: {sum(view.not_comparable.values()):,}")
        lines += [f"    {reason} {count:,}" for reason, count in sorted(view.not_comparable.items())]
    for view in found:
        for example in view.examples[:SHOWN_EXAMPLES]:
            read = example["read"]
            key = read.get("key") or (read["query"], read["item_id"])
            lines.append(f"different: {view.view} {' '.join(map(repr, key))} read at {read['read_us']} us")
            lines.append(f"  served   {str(read['served'])[:SHOWN_CHARS]}")
            lines.append(f"  expected {str(example['expected'])[:SHOWN_CHARS]}")
    return lines


def parity_of(equal: int, different: int) -> str:
    """Return the share of equal ones, never rounded up to what it is not.

    >>> parity_of(1_000_000, 1)
    '99.99%'
    """
    if not equal + different:
        return "unknown"
    share = equal / (equal + different)
    return f"{min(share, 0.9999) if different else share:.2%}"


@features.command(epilog="\b\nExamples:\n  relevance features read 'red mug' sku-000123 sku-000456")
@click.argument("query")
@click.argument("item_ids", nargs=-1, required=True)
@pass_context
def read(context: Context, query: str, item_ids: tuple[str, ...]) -> None:
    """Show what serving would read now for items under a query, and what their content is."""
    from feature_store.online import OnlineStoreError
    from feature_store.reader import FeatureReader
    from feature_store.writing import FeatureWriter
    from streams.normalise import normalise_query

    settings = context.settings()
    reader, store = FeatureReader(settings), FeatureWriter(settings)
    try:
        answer = reader.engagement(normalise_query(query), item_ids)
        if reader.trouble:
            raise CommandError(reader.trouble)
        contents = store.read("item_content", [(item_id,) for item_id in item_ids], ("text",))
    except OnlineStoreError as error:
        raise CommandError(str(error)) from error
    finally:
        reader.close()
        store.close()
    rows: list[Sequence[object]] = []
    for item_id, row in zip(item_ids, answer.features, strict=True):
        content = contents.get((item_id,))
        title = content["text"].string_val.split("\n")[0] if content else "(not in the catalogue)"
        if row is None:
            rows.append((item_id, "-", "-", "-", "-", "-", title))
            continue
        age_s = time.time() - row.as_of_us / 1e6
        coec = "-" if row.coec is None else f"{row.coec:.2f}"
        rows.append((item_id, row.impressions, row.clicks, row.purchases, coec, f"{age_s:,.0f} s", title))
    context.table(("item", "impressions", "clicks", "purchases", "coec", "age", "title"), rows)


@features.command(
    epilog="\b\nExamples:\n  RELEVANCE_CLICKHOUSE=http://clickhouse:8123/relevance relevance features push"
)
@pass_context
def push(context: Context) -> None:
    """Push query statistics and shoppers' history, as the events in ClickHouse have them now, while no stack runs: a
    running one does so by itself."""
    from contextlib import closing

    from feature_store.from_clickhouse import query_statistics, shopper_history, windows_since_ms
    from feature_store.online import OnlineStoreError
    from feature_store.statements import segment_row, statistics_row
    from feature_store.store import apply
    from feature_store.writing import FeatureWriter
    from ops.clickhouse.client import ClickHouseUnavailableError, open_client
    from ops.clickhouse.migrate import migrate

    settings = context.settings()
    if run_lock.holder(settings.run_dir):
        raise CommandError("the running stack pushes these by itself; see `relevance features status`")

    def clock_ms() -> int:
        return time.time_ns() // 1_000_000

    now_ms = clock_ms()
    apply(settings)
    writer = FeatureWriter(settings)
    try:
        with closing(open_client(settings)) as client:
            migrate(client)
            since_ms = windows_since_ms(now_ms=now_ms, window_s=settings.streams.frequency_window_s)
            queries = query_statistics(client, since_ms=since_ms, clock_ms=clock_ms)
            shoppers = shopper_history(
                client, experiment=settings.experiment.name, until_ms=now_ms, clock_ms=clock_ms
            )
        rows = {
            "query_statistics": [statistics_row(each) for each in queries],
            "shopper_segment": [segment_row(each) for each in shoppers],
        }
        written = {view: writer.write(view, of_view) for view, of_view in rows.items()}
    except (ClickHouseUnavailableError, OnlineStoreError) as error:
        raise CommandError(str(error)) from error
    finally:
        writer.close()
    context.table(("view", "rows", "new online"), [(v, w.offline, w.online) for v, w in written.items()])


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
