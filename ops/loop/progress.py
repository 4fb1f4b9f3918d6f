"""The demo's line while it runs: versions, judgements, pairs that wait, CTR."""

from __future__ import annotations

from ops.dashboard.loop_view import LoopOverview


def loop_line(overview: LoopOverview) -> str:
    """Return how far the loop is, in a line without the experiment's figures."""
    treatment = next((each.name for each in overview.versions if each.arm == "treatment"), "")
    served = f", {treatment} in treatment" if treatment else ""
    updates = overview.updates
    waiting = next((group.records for group in overview.lag if group.name == "teacher"), None)
    parts = [
        f"{updates['passed']} of {sum(updates.values())} updates passed{served}",
        f"{overview.cost.judgements:,} judgements",
        f"{'?' if waiting is None else waiting} pairs wait",
    ]
    if overview.alerts:
        parts.append("publishing is stopped")
    return "  ".join(parts)
