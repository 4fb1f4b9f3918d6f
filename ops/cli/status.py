"""`relevance status`: the parts and how they are."""

from __future__ import annotations

import time
from typing import Any

import click
import msgspec

from ops import endpoints, heartbeat
from ops.cli import dashboard_client
from ops.cli.context import CommandError, Context, pass_context, printable
from ops.settings import Settings
from ops.stack import run_lock

#: Parts write a sign of life every second; the broker's is written for it.
FRESH_S = 10.0
API_TIMEOUT_S = 5.0


class PartStatus(msgspec.Struct, frozen=True):
    """A part as its last heartbeat tells it. `health` is ok, starting, stopping or silent."""

    name: str
    health: str
    pid: int
    age_s: float
    detail: str
    counters: dict[str, float]


class StackStatus(msgspec.Struct, frozen=True):
    """The whole stack. `triton` and `teacher` are empty without a server or its address; `lag` is None
    where the dashboard gives no answer.
    """

    running: bool
    pid: int | None
    kafka: str
    dashboard: str
    triton: str
    teacher: str
    parts: list[PartStatus]
    lag: Any
    healthy: bool


def part_status(sign: heartbeat.Heartbeat, now_s: float) -> PartStatus:
    """Judge a heartbeat at `now_s` (epoch seconds)."""
    age_s = max(0.0, now_s - sign.at_s)
    health = "silent" if age_s > FRESH_S else {"ready": "ok"}.get(sign.state, sign.state)
    return PartStatus(sign.part, health, sign.pid, round(age_s, 1), sign.detail, sign.counters)


def collect(settings: Settings) -> StackStatus:
    """Gather what heartbeats, lock and dashboard say."""
    pid = run_lock.holder(settings.run_dir)
    addresses = endpoints.read(settings.run_dir)
    parts = [part_status(sign, time.time()) for sign in heartbeat.read_all(settings.run_dir)]
    lag: Any = None
    if addresses and any(part.name == "metrics" and part.health == "ok" for part in parts):
        try:
            lag = dashboard_client.get(settings, "/api/overview", timeout_s=API_TIMEOUT_S).get("lag")
        except CommandError:
            # What the page can't say is shown as unknown; the parts above tell why.
            lag = None
    return StackStatus(
        running=pid is not None,
        pid=pid,
        kafka=addresses.kafka if addresses else settings.kafka,
        dashboard=addresses.dashboard if addresses else "",
        triton=settings.triton or (addresses.triton if addresses else ""),
        teacher=settings.teacher_url or (addresses.teacher if addresses else ""),
        parts=parts,
        lag=lag,
        healthy=bool(parts) and all(part.health == "ok" for part in parts),
    )


@click.command(epilog="\b\nExamples:\n  relevance status\n  relevance status --json | jq .healthy")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_context
def status(context: Context, as_json: bool) -> None:
    """Show the parts, their health, counters and lag. The exit code is 1 unless every part is well."""
    found = collect(context.settings())
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        _show(context, found)
    if not (found.running and found.healthy):
        raise SystemExit(1)


def _show(context: Context, found: StackStatus) -> None:
    if not found.running:
        context.console.print(f"no stack runs in {context.settings().run_dir}: start one with `relevance up`")
        return
    addresses = {
        "page": found.dashboard,
        "kafka": found.kafka,
        "triton": found.triton,
        "teacher": found.teacher,
    }
    listed = "; ".join(f"{name} {address}" for name, address in addresses.items() if address)
    context.console.print(printable(f"running as pid {found.pid}; {listed}"))
    context.table(
        ("part", "health", "pid", "seen", "detail", "counters"), [_cells(part) for part in found.parts]
    )
    for group in found.lag or []:
        behind = "unknown" if group["records"] is None else f"{group['records']:,} records behind"
        context.console.print(printable(f"{group['name']} is {behind} {', '.join(group['topics'])}"))


def _cells(part: PartStatus) -> tuple[object, ...]:
    counters = "  ".join(f"{name} {value:,.0f}" for name, value in part.counters.items())
    return part.name, part.health, part.pid, f"{part.age_s:.0f} s ago", part.detail, counters
