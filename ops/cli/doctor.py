"""`relevance doctor`: check every part and say what to mend."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import click
from clickhouse_connect.driver.exceptions import ClickHouseError
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from ops import endpoints, heartbeat
from ops.cli import dashboard_client
from ops.cli.checks import Check, Level
from ops.cli.context import CommandError, Context, pass_context, printable
from ops.cli.server_checks import server_checks
from ops.cli.status import part_status
from ops.clickhouse.client import ClickHouseUnavailableError, open_client
from ops.clickhouse.migrate import read_migrations
from ops.kafka import connection
from ops.settings import Settings, SettingsError
from ops.stack import apache_kafka, embedded_broker, plan, run_lock
from ops.stack.broker_probe import failure
from ops.stack.embedded_broker import BrokerSetupError
from ops.stack.ports import is_free
from streams.topics import TOPICS

#: Package to import, distribution that brings it.
PACKAGES = (
    ("chdb", "chdb"),
    ("click", "click"),
    ("clickhouse_connect", "clickhouse-connect"),
    ("datasketches", "datasketches"),
    ("duckdb", "duckdb"),
    ("faust", "faust-streaming"),
    ("feast", "feast"),
    ("kafka", "kafka-python"),
    ("msgspec", "msgspec"),
    ("numpy", "numpy"),
    ("pandas", "pandas"),
    ("plotly", "plotly"),
    ("pyarrow", "pyarrow"),
    ("pydantic", "pydantic"),
    ("redis", "redis"),
    ("rich", "rich"),
    ("starlette", "starlette"),
    ("supervisor", "supervisor"),
    ("tea_tasting", "tea-tasting"),
    ("uvicorn", "uvicorn"),
    ("uvloop", "uvloop"),
)
DISK_NEEDED_BYTES = 1_000_000_000
MEMORY_NEEDED_BYTES = 2_000_000_000
API_TIMEOUT_S = 5.0


@click.command(epilog="\b\nExamples:\n  relevance doctor\n  RELEVANCE_KAFKA=kafka-1:9092 relevance doctor")
@pass_context
def doctor(context: Context) -> None:
    """Check the machine, the settings and every part. Exit code 1 if something that is needed is broken."""
    broken = 0
    for check in all_checks(context):
        context.console.print(printable(f"{check.level:<6} {check.name:<27} {check.detail}"))
        if check.mend:
            context.console.print(printable(f"       {'':<27} -> {check.mend}"))
        broken += check.level == Level.BROKEN
    if broken:
        context.console.print(f"{broken} to mend")
        raise SystemExit(1)
    context.console.print("all that is needed is well")


def all_checks(context: Context) -> Iterator[Check]:
    """Run every check, one after the other; without readable settings only those of the machine."""
    yield python_check(sys.version_info[:2])
    yield from package_checks()
    try:
        settings = context.settings()
    except SettingsError as error:
        yield Check.broken(
            "settings", " ".join(str(error).split()), "`relevance settings` lists what there is"
        )
        return
    yield Check.ok("settings", "readable")
    yield disk_check(settings.run_dir)
    yield memory_check(Path("/proc/meminfo"))
    pid = run_lock.holder(settings.run_dir)
    if pid:
        yield Check.ok("stack", f"runs as pid {pid} in {settings.run_dir}")
    else:
        yield Check.note("stack", f"not running in {settings.run_dir}", "`relevance up` starts it")
        yield from port_checks(settings)
    yield from broker_program_checks(settings)
    yield from broker_checks(settings, running=bool(pid))
    yield clickhouse_check(settings, running=bool(pid))
    yield from server_checks(settings, running=bool(pid))
    if pid:
        yield dashboard_check(settings)
        yield from part_checks(settings, time.time())


def python_check(version: tuple[int, int]) -> Check:
    """Python 3.11 to 3.13 are supported."""
    text = ".".join(map(str, version))
    if (3, 11) <= version < (3, 14):
        return Check.ok("python", f"{text} on {platform.platform()}")
    return Check.broken("python", f"{text}: expected 3.11 to 3.13", "make a new environment: `make setup`")


def package_checks() -> Iterator[Check]:
    """Every package can be imported and says its version."""
    for module, distribution in PACKAGES:
        name = f"package {distribution}"
        try:
            importlib.import_module(module)
            yield Check.ok(name, importlib.metadata.version(distribution))
        except Exception as error:  # noqa: BLE001 - whatever a broken package raises is the finding
            yield Check.broken(name, f"can't be imported: {error!r}", "`make setup` installs what is pinned")


def disk_check(run_dir: Path) -> Check:
    """The run directory can be written and has room."""
    folder = run_dir
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        return Check.broken("disk", f"{folder} can't be written", "give --run-dir a folder of yours")
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:,.1f} GB free in {folder}"
    if free < DISK_NEEDED_BYTES:
        return Check.broken(
            "disk", text, f"expected {DISK_NEEDED_BYTES / 1e9:.0f} GB; remove old run directories"
        )
    return Check.ok("disk", text)


def memory_check(meminfo: Path) -> Check:
    """There is memory for the stack (Linux)."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return Check.note("memory", "unknown on this system", "")
    available = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)
    text = f"{available / 1e9:,.1f} GB available"
    if available < MEMORY_NEEDED_BYTES:
        return Check.note("memory", text, f"the stack takes about {MEMORY_NEEDED_BYTES / 1e9:.0f} GB")
    return Check.ok("memory", text)


def port_checks(settings: Settings) -> Iterator[Check]:
    """The usual ports; taken ones are no harm, others are used."""
    wanted = [("page port", settings.metrics.port, settings.metrics.host)]
    if not settings.kafka:
        wanted.insert(0, ("broker port", settings.stack.broker_port, "127.0.0.1"))
    for name, port, host in wanted:
        if is_free(port, host):
            yield Check.ok(name, f"{port} is free")
        else:
            yield Check.note(name, f"{port} is taken", "another will be used and said")


def broker_program_checks(settings: Settings) -> Iterator[Check]:
    """The broker that `relevance up` would start can be started."""
    if settings.kafka:
        return
    try:
        if settings.stack.broker == "apache":
            found = apache_kafka.find(apache_kafka.home(settings))
            version = ".".join(map(str, found.version))
            yield Check.ok("apache kafka", f"{version} in {found.jars}")
            yield Check.ok("java", apache_kafka.java(found.java_needed))
        else:
            yield Check.ok("embedded broker", str(embedded_broker.binary()))
    except BrokerSetupError as error:
        yield Check.broken("broker", "can't be started", str(error))


def broker_checks(settings: Settings, *, running: bool) -> Iterator[Check]:
    """The broker answers and has the topics."""
    if not running and not settings.kafka:
        return
    bootstrap = endpoints.kafka_address(settings)
    if reason := failure(settings, bootstrap):
        mend = "check RELEVANCE_KAFKA and RELEVANCE_KAFKA_SECURITY__*" if settings.kafka else "see its log"
        yield Check.broken("kafka", f"{bootstrap} gives no answer: {reason}", mend)
        return
    yield Check.ok("kafka", f"{bootstrap} answers")
    try:
        with closing(KafkaAdminClient(**connection(settings, bootstrap))) as admin:
            missing = sorted({spec.name for spec in TOPICS} - set(admin.list_topics()))
    except KafkaError as error:
        yield Check.broken("topics", f"can't be listed: {error}", "does this user have the right to?")
        return
    if missing:
        yield Check.broken("topics", f"missing: {', '.join(missing)}", "`relevance up` makes them")
    else:
        yield Check.ok("topics", f"all {len(TOPICS)} there")


def clickhouse_check(settings: Settings, *, running: bool) -> Check:
    """The event store can be opened and has the schema that this program knows."""
    if running and not settings.clickhouse:
        return Check.ok("clickhouse", "embedded, held by the part metrics")
    if not settings.clickhouse and not (settings.run_dir / "clickhouse").exists():
        return Check.note("clickhouse", "embedded, not made yet", "`relevance up` makes it")
    try:
        with closing(open_client(settings)) as client:
            answer = client.query("SELECT version FROM schema_versions FINAL ORDER BY version")
            known = len(read_migrations())
            applied = [int(row[0]) for row in answer.result_rows]
    except (ClickHouseUnavailableError, ClickHouseError, OSError) as error:
        mend = "check RELEVANCE_CLICKHOUSE; the part metrics makes the schema when it starts"
        return Check.broken("clickhouse", str(error).splitlines()[0], mend)
    text = f"schema version {max(applied, default=0)} of {known}"
    if max(applied, default=0) > known:
        return Check.broken("clickhouse", text, "the data is of a newer program: update this one")
    return Check.ok("clickhouse", text)


def dashboard_check(settings: Settings) -> Check:
    """The page answers."""
    try:
        dashboard_client.get(settings, "/api/health", timeout_s=API_TIMEOUT_S)
    except (CommandError, endpoints.NotRunningError) as error:
        return Check.broken("page", str(error), "see the log of the part metrics")
    return Check.ok("page", endpoints.dashboard_url(settings))


def part_checks(settings: Settings, now_s: float) -> Iterator[Check]:
    """Every part of the plan gives signs of life; without a shop there is no traffic, which is no fault."""
    for part in plan.parts(settings):
        sign = heartbeat.read(settings.run_dir, part.name)
        log = f"see {settings.run_dir}/logs/{part.name}.log"
        if sign is None:
            missing: Callable[[str, str, str], Check] = Check.note if part.name == "shop" else Check.broken
            yield missing(f"part {part.name}", "has never given a sign of life", log)
            continue
        found = part_status(sign, now_s)
        text = f"{found.health}, {found.age_s:.0f} s ago: {found.detail}"
        if part.start_within_s is None and found.health == "starting":
            yield Check.note(f"part {part.name}", text, "the others do not wait for it")
            continue
        yield (
            Check.ok(f"part {part.name}", text)
            if found.health == "ok"
            else Check.broken(f"part {part.name}", text, log)
        )
