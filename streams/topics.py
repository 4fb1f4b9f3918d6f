"""Every Kafka topic of the project: its name, what keys it, and how long it keeps records.

Topics that share state in the streams worker (`ubi.queries`, `ubi.events`) must have equal partition
counts and be keyed by `query_id`, so that a page of results lands on one worker.
"""

from __future__ import annotations

from dataclasses import dataclass

UBI_QUERIES = "ubi.queries"
UBI_EVENTS = "ubi.events"
METRICS_ROWS = "metrics.rows"
ENGAGEMENT_DELTAS = "engagement.deltas"
ENGAGEMENT_WINDOWS = "engagement.windows"
EXPERIMENT_STATES = "experiments.states"
PAIRS = "relevance.pairs"
JUDGEMENTS = "relevance.judgements"
STUDENTS = "relevance.students"
DEAD_LETTERS = "relevance.dead-letters"
CATALOGUE_ITEMS = "catalogue.items"
QUERIES_STATISTICS = "queries.statistics"
SHOPPERS_HISTORY = "shoppers.history"

HOUR_S = 3600
DAY_S = 24 * HOUR_S
MAX_RECORD_BYTES = 1_048_576
#: A dead letter carries the original value unchanged plus headers, so it may be a little larger.
MAX_DEAD_LETTER_BYTES = 2 * MAX_RECORD_BYTES


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic is created where it does not exist yet. `partitions` 0 means the stack's default; a compacted topic
    keeps the latest record of a key for ever where `retention_s` is 0."""

    name: str
    partitions: int
    retention_s: int
    compacted: bool = False
    max_record_bytes: int = MAX_RECORD_BYTES
    #: Traffic may be kept for less than `retention_s` where room is short.
    traffic: bool = True

    def config(self, *, longest_s: int | None = None) -> dict[str, str]:
        """Return the broker's topic configuration, keeping traffic for `longest_s` at most."""
        config = {"max.message.bytes": str(self.max_record_bytes)}
        if self.compacted:
            config["cleanup.policy"] = "compact,delete" if self.retention_s else "compact"
        if self.retention_s:
            kept_s = self.retention_s
            if self.traffic and longest_s is not None:
                kept_s = min(kept_s, longest_s)
            config["retention.ms"] = str(kept_s * 1000)
        return config


TOPICS: tuple[TopicSpec, ...] = (
    TopicSpec(UBI_QUERIES, 0, 2 * HOUR_S),
    TopicSpec(UBI_EVENTS, 0, 2 * HOUR_S),
    TopicSpec(METRICS_ROWS, 0, 2 * HOUR_S, max_record_bytes=MAX_DEAD_LETTER_BYTES),
    TopicSpec(ENGAGEMENT_DELTAS, 0, 2 * HOUR_S),
    TopicSpec(ENGAGEMENT_WINDOWS, 0, 2 * HOUR_S),
    TopicSpec(EXPERIMENT_STATES, 1, 0, compacted=True),
    # Keyed by item id: the latest offer of every item, for ever.
    TopicSpec(CATALOGUE_ITEMS, 0, 0, compacted=True),
    # Void after two windows, which is when all that still hold have been said again.
    TopicSpec(QUERIES_STATISTICS, 0, 2 * DAY_S, compacted=True),
    # Said again only when the shopper does something more; no client id is kept for longer than it serves.
    TopicSpec(SHOPPERS_HISTORY, 0, 60 * DAY_S, compacted=True, traffic=False),
    TopicSpec(PAIRS, 0, 24 * HOUR_S, traffic=False),
    # The log that any student version can be rebuilt from.
    TopicSpec(JUDGEMENTS, 0, 30 * 24 * HOUR_S, traffic=False),
    # Keyed by kind: the last step of each says which version scores which arm. All steps are in ClickHouse.
    TopicSpec(STUDENTS, 1, 0, compacted=True),
    TopicSpec(DEAD_LETTERS, 1, 7 * 24 * HOUR_S, max_record_bytes=MAX_DEAD_LETTER_BYTES, traffic=False),
)
