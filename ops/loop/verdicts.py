"""The guardrails over a stretch of time, asked of the page, which holds the embedded store, or of a server."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

import msgspec

from ops.cli import dashboard_client
from ops.clickhouse.client import open_client
from ops.experiments.guardrails import Guardrail
from ops.experiments.report import report_since
from ops.settings import Settings

PAGE_TIMEOUT_S = 30.0


class _Judged(msgspec.Struct, frozen=True):
    """What is read of a report."""

    guardrails: list[Guardrail]


def guardrails_since(settings: Settings, since_ms: int) -> Sequence[Guardrail]:
    """Return the guardrails over what has happened since then (epoch milliseconds).

    Raises NotRunningError or CommandError if the page gives no answer, ClickHouseUnavailableError, ClickHouseError.
    """
    if settings.clickhouse:
        with contextlib.closing(open_client(settings)) as client:
            now_ms = time.time_ns() // 1_000_000
            return report_since(client, settings, since_ms=since_ms, now_ms=now_ms).guardrails
    answer = dashboard_client.get(settings, f"/api/experiment?since_ms={since_ms}", timeout_s=PAGE_TIMEOUT_S)
    return msgspec.convert(answer, _Judged).guardrails
