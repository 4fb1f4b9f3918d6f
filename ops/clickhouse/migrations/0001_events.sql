-- Rows carry the id of the event they come from; a later `version` of a row knows more than an earlier one
-- (bit 0: its query has been seen, bit 1: its impression has been seen), so replays and late facts replace.
-- Read these tables with FINAL.

CREATE TABLE IF NOT EXISTS queries
(
    event_id UUID,
    query_id String,
    application LowCardinality(String),
    client_id String,
    session_id String,
    query String,
    normalised_query String,
    traffic_class LowCardinality(String),
    arms Map(LowCardinality(String), LowCardinality(String)),
    student_version LowCardinality(String),
    latency_ms Nullable(Float32),
    fallback Bool,
    event_time DateTime64(3, 'UTC'),
    version UInt8,
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(event_time)
ORDER BY (toDate(event_time), event_id)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS impressions
(
    event_id UUID,
    query_id String,
    item_id String,
    position UInt16,
    application LowCardinality(String),
    client_id String,
    session_id String,
    normalised_query String,
    traffic_class LowCardinality(String),
    arms Map(LowCardinality(String), LowCardinality(String)),
    student_version LowCardinality(String),
    score Nullable(Float32),
    bid Nullable(Float32),
    event_time DateTime64(3, 'UTC'),
    version UInt8,
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(event_time)
ORDER BY (toDate(event_time), event_id)
SETTINGS non_replicated_deduplication_window = 1000;

-- attribution: 'impression' (within the window), 'too_late' (impression known, window over),
-- 'no_impression' (none seen so far). impression_id is the nil UUID where there is none.
CREATE TABLE IF NOT EXISTS clicks
(
    event_id UUID,
    impression_id UUID,
    attribution LowCardinality(String),
    delay_ms Int64,
    query_id String,
    item_id String,
    position UInt16,
    application LowCardinality(String),
    client_id String,
    session_id String,
    normalised_query String,
    traffic_class LowCardinality(String),
    arms Map(LowCardinality(String), LowCardinality(String)),
    student_version LowCardinality(String),
    event_time DateTime64(3, 'UTC'),
    version UInt8,
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(event_time)
ORDER BY (toDate(event_time), event_id)
SETTINGS non_replicated_deduplication_window = 1000;

-- kind: 'add_to_cart' or 'purchase'; revenue and quantity are 0 where the event did not say.
CREATE TABLE IF NOT EXISTS conversions
(
    event_id UUID,
    kind LowCardinality(String),
    impression_id UUID,
    attribution LowCardinality(String),
    delay_ms Int64,
    revenue Float64,
    quantity UInt32,
    query_id String,
    item_id String,
    position UInt16,
    application LowCardinality(String),
    client_id String,
    session_id String,
    normalised_query String,
    traffic_class LowCardinality(String),
    arms Map(LowCardinality(String), LowCardinality(String)),
    student_version LowCardinality(String),
    event_time DateTime64(3, 'UTC'),
    version UInt8,
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(event_time)
ORDER BY (toDate(event_time), event_id)
SETTINGS non_replicated_deduplication_window = 1000;

-- Typed events whose action is none of the above (page exits, filters, searches reported as events, ...).
CREATE TABLE IF NOT EXISTS interactions
(
    event_id UUID,
    action_name LowCardinality(String),
    query_id String,
    item_id String,
    application LowCardinality(String),
    client_id String,
    session_id String,
    event_time DateTime64(3, 'UTC'),
    version UInt8,
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(event_time)
ORDER BY (toDate(event_time), event_id)
SETTINGS non_replicated_deduplication_window = 1000;

-- One row per (query, experiment): the shopper `client_id` was scored under `arm`. event_id is the query's.
CREATE TABLE IF NOT EXISTS exposures
(
    event_id UUID,
    experiment LowCardinality(String),
    arm LowCardinality(String),
    client_id String,
    query_id String,
    traffic_class LowCardinality(String),
    student_version LowCardinality(String),
    event_time DateTime64(3, 'UTC'),
    version UInt8,
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(event_time)
ORDER BY (experiment, toDate(event_time), event_id)
SETTINGS non_replicated_deduplication_window = 1000;

-- payload_base64 holds at most the first 4 KiB; the topic relevance.dead-letters holds the original bytes.
CREATE TABLE IF NOT EXISTS dead_letters
(
    source_topic LowCardinality(String),
    source_partition UInt32,
    source_offset UInt64,
    reason LowCardinality(String),
    detail String,
    payload_bytes UInt32,
    payload_base64 String,
    event_time DateTime64(3, 'UTC'),
    version UInt8,
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (source_topic, source_partition, source_offset)
SETTINGS non_replicated_deduplication_window = 1000;
