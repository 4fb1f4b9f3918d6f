-- What was sampled for the teacher, and why.

-- reasons holds each term of the priority, the priority itself, and uniform (1: drawn by lot, for monitoring).
-- tokens is what the judgement was expected to cost; deadline in epoch milliseconds.
CREATE TABLE IF NOT EXISTS sampled_pairs
(
    query String,
    item_id String,
    content_hash String,
    item_text String,
    traffic_class LowCardinality(String),
    uniform Bool,
    priority Float64,
    reasons Map(LowCardinality(String), Float64),
    tokens Float32,
    deadline DateTime64(3, 'UTC'),
    event_time DateTime64(3, 'UTC'),
    version UInt8,
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(event_time)
ORDER BY (toDate(event_time), query, item_id, content_hash, event_time)
SETTINGS non_replicated_deduplication_window = 1000;
