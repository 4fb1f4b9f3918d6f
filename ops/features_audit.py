"""The audit as a job: logged reads out of ClickHouse, compared with history, the result into ClickHouse.

Where a stack runs, reads come from its page and the result goes by way of Kafka, since its metrics process may hold
the only handle on ClickHouse. Without one ClickHouse is opened here.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import msgspec
from feast import FeatureStore

from feature_store.audit import Audit, LoggedRead, audit_engagement
from feature_store.definitions import PAIR_ENGAGEMENT
from feature_store.push_log import PushLog
from feature_store.reader import Engagement
from feature_store.store import definitions, repo_config
from ops.clickhouse.client import open_client
from ops.clickhouse.inserting import Inserter
from ops.clickhouse.migrate import migrate
from ops.dashboard import feature_queries
from ops.dashboard.feature_queries import MAX_SEARCHES, ReadSearch
from ops.settings import Settings

#: The next searches after a place, and how many there are in all.
Ask = Callable[[int], list[ReadSearch]]


class AuditedReads(msgspec.Struct, frozen=True, kw_only=True):
    """A result with what it is about; times in epoch microseconds, those of the first and last page served."""

    audit_id: str
    seed: int
    share: float
    first_us: int
    last_us: int
    searches: int
    reads: int
    equal: int
    different: int
    not_comparable: dict[str, int]
    examples: list[Any]

    def row(self, *, at_ms: int) -> dict[str, Any]:
        """Return the row of `feature_audits`."""
        row = msgspec.structs.asdict(self)
        row["examples"] = msgspec.json.encode(self.examples).decode()
        return row | {"view": PAIR_ENGAGEMENT, "event_time": at_ms, "version": 1}


def audit_reads(settings: Settings, searches: list[ReadSearch], *, of: int, seed: int) -> AuditedReads:
    """Compare the reads of searches, a sample of `of` many, with history. The store must have been applied.

    Raises OSError if its log of pushes can't be read, ValueError without searches.
    """
    if not searches:
        raise ValueError("expected searches that have logged what they read, got none")
    # Never written through, so whoever pushes is not disturbed.
    store = FeatureStore(config=repo_config(settings))
    reads = [read for search in searches for read in logged_reads(search)]
    view = definitions(settings).views[PAIR_ENGAGEMENT]
    found: Audit = audit_engagement(store, view, PushLog(settings), reads)
    return AuditedReads(
        audit_id=str(uuid.uuid4()),
        seed=seed,
        share=len(searches) / max(of, len(searches)),
        first_us=min(search.served_us for search in searches),
        last_us=max(search.served_us for search in searches),
        searches=len(searches),
        reads=found.reads,
        equal=found.equal,
        different=found.different,
        not_comparable=dict(found.not_comparable),
        examples=[msgspec.to_builtins(example) for example in found.examples],
    )


def logged_reads(search: ReadSearch) -> Iterator[LoggedRead]:
    """Yield the pairs of a search as they were read."""
    for number, item_id in enumerate(search.item_ids):
        yield LoggedRead(
            event_id=search.event_id,
            query=search.normalised_query,
            item_id=item_id,
            read_us=search.read_us[number],
            answered_us=search.answered_us[number],
            served=_served(search, number),
        )


def _served(search: ReadSearch, number: int) -> Engagement | None:
    row = (
        search.impressions[number],
        search.clicks[number],
        search.purchases[number],
        search.expected_clicks[number],
        search.as_of_us[number],
    )
    impressions, clicks, purchases, expected_clicks, as_of_us = row
    if (
        impressions is None
        or clicks is None
        or purchases is None
        or expected_clicks is None
        or as_of_us is None
    ):
        # The edge takes a row's numbers all together or not at all.
        return None
    return Engagement(impressions, clicks, purchases, expected_clicks, search.coec[number], as_of_us)


def sample(ask: Ask, *, searches: int) -> list[ReadSearch]:
    """Ask for searches until there are so many, or, with 0, until there are no more."""
    found: list[ReadSearch] = []
    while not searches or len(found) < searches:
        some = ask(found[-1].place if found else 0)
        found += some
        if len(some) < MAX_SEARCHES:
            break
    return found[: searches or None]


@contextmanager
def own_store(
    settings: Settings, *, first_ms: int, last_ms: int, seed: int
) -> Iterator[tuple[int, Ask, Callable[[AuditedReads], None]]]:
    """Open ClickHouse here: yield how many searches there are, how to ask for them, and where a result goes.

    Raises ClickHouseUnavailableError.
    """
    with closing(open_client(settings)) as client:
        migrate(client)

        def ask(after: int) -> list[ReadSearch]:
            return feature_queries.read_searches(
                client, first_ms=first_ms, last_ms=last_ms, seed=seed, after=after, limit=MAX_SEARCHES
            )

        def keep(result: AuditedReads) -> None:
            line = msgspec.json.encode(result.row(at_ms=time.time_ns() // 1_000_000)) + b"\n"
            Inserter(client).insert("feature_audits", line, origin=result.audit_id)

        yield feature_queries.count_searches(client, first_ms=first_ms, last_ms=last_ms), ask, keep
