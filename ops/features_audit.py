"""The audit as a job: logged reads out of ClickHouse and reads of now, compared with history, the results into
ClickHouse, one for each view.

Where a stack runs, reads come from its page and the result goes by way of Kafka, since its metrics process may hold
the only handle on ClickHouse. Without one ClickHouse is opened here.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import msgspec
from feast import FeatureStore

from feature_store import offline
from feature_store.audit import Audit, LoggedRead, audit_engagement
from feature_store.audit_views import StoredRead, audit_view, read_now
from feature_store.definitions import ITEM_VECTORS, PAIR_ENGAGEMENT
from feature_store.online import open_reads
from feature_store.push_log import PushLog
from feature_store.reader import Engagement
from feature_store.store import definitions, prepare, repo_config
from feature_store.writing import now_us
from ops.clickhouse.client import open_client
from ops.clickhouse.inserting import Inserter
from ops.clickhouse.migrate import migrate
from ops.dashboard import feature_queries
from ops.dashboard.feature_queries import MAX_SEARCHES, ReadSearch
from ops.settings import Settings

#: What is compared beside the views: tables of item vectors with the store's, query vectors with the version's graph.
ITEM_VECTOR_TABLES = "item_vector_tables"
QUERY_VECTORS = "query_vectors"
#: Of the logged queries, each of which is computed anew.
MOST_QUERIES = 100

#: The next searches after a place, and how many there are in all.
Ask = Callable[[int], list[ReadSearch]]


class AuditedReads(msgspec.Struct, frozen=True, kw_only=True):
    """A view's result with what it is about; times in epoch microseconds: of the first and last page served, or of
    the first and last read. `share` is that of the searches, or of the keys, that were compared; `searches` is 0
    where no logged searches are compared."""

    audit_id: str
    view: str
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
        return row | {"event_time": at_ms, "version": 1}


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
    found: Audit[LoggedRead] = audit_engagement(store, view, PushLog(settings), reads)
    return _result(
        PAIR_ENGAGEMENT,
        found,
        seed=seed,
        share=len(searches) / max(of, len(searches)),
        moments_us=[search.served_us for search in searches],
        searches=len(searches),
    )


def audit_stored(settings: Settings, *, queries: Sequence[str], keys: int, seed: int) -> list[AuditedReads]:
    """Compare what the online store holds now of a sample of each other view's keys with history, and the vectors
    that serve with the stored ones and with the graphs of their versions; `queries` are normalised.

    The store must have been applied. Raises OSError if its log of pushes can't be read.
    """
    # Onnxruntime and Triton's client take their time to import.
    from ops import vectors_audit

    store, defined = FeatureStore(config=repo_config(settings)), definitions(settings)
    prepare(defined)
    results = []
    vectors: tuple[list[StoredRead], float] = ([], 1.0)
    with closing(open_reads(settings)) as online:
        for name, view in defined.views.items():
            if name == PAIR_ENGAGEMENT:
                continue
            drawn, total = offline.sample_keys(view, count=keys, seed=seed)
            reads = read_now(online, view, drawn, clock_us=now_us)
            share = len(drawn) / max(total, 1)
            found = audit_view(store, view, PushLog(settings), reads)
            moments_us = [read.read_us for read in reads if read.read_us is not None]
            results.append(_result(name, found, seed=seed, share=share, moments_us=moments_us))
            if name == ITEM_VECTORS:
                vectors = reads, share
    reads, share = vectors
    tables = vectors_audit.audit_tables(settings, reads)
    results.append(_result(ITEM_VECTOR_TABLES, tables, seed=seed, share=share, moments_us=[]))
    asked = list(dict.fromkeys(queries))
    some = vectors_audit.audit_queries(settings, asked[:MOST_QUERIES])
    share = min(1.0, MOST_QUERIES / max(len(asked), 1))
    results.append(_result(QUERY_VECTORS, some, seed=seed, share=share, moments_us=[]))
    return results


def _result(
    view: str, found: Audit[Any], *, seed: int, share: float, moments_us: Sequence[int], searches: int = 0
) -> AuditedReads:
    moments_us = moments_us or [now_us()]
    return AuditedReads(
        audit_id=str(uuid.uuid4()),
        view=view,
        seed=seed,
        share=share,
        first_us=min(moments_us),
        last_us=max(moments_us),
        searches=searches,
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
) -> Iterator[tuple[int, Ask, Callable[[Sequence[AuditedReads]], None]]]:
    """Open ClickHouse here: yield how many searches there are, how to ask for them, and where results go.

    Raises ClickHouseUnavailableError.
    """
    with closing(open_client(settings)) as client:
        migrate(client)

        def ask(after: int) -> list[ReadSearch]:
            return feature_queries.read_searches(
                client, first_ms=first_ms, last_ms=last_ms, seed=seed, after=after, limit=MAX_SEARCHES
            )

        def keep(results: Sequence[AuditedReads]) -> None:
            at_ms = time.time_ns() // 1_000_000
            lines = msgspec.json.Encoder().encode_lines([result.row(at_ms=at_ms) for result in results])
            Inserter(client).insert("feature_audits", lines, origin=results[0].audit_id)

        yield feature_queries.count_searches(client, first_ms=first_ms, last_ms=last_ms), ask, keep
