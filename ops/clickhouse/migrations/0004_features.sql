-- What serving read of the feature store, and whether training reads the same.

-- One row a search: the pair engagement of the items that were shown, an element an item in each array. served_us is
-- when the page was made; read_us and answered_us when the online store was asked and had answered, null where it
-- did not; as_of_us and the features are null where the pair had none. Times in microseconds since the epoch.
-- event_id is the query's.
CREATE TABLE IF NOT EXISTS feature_reads
(
    event_id UUID,
    query_id String,
    normalised_query String,
    served_us Int64,
    item_ids Array(String),
    read_us Array(Nullable(Int64)),
    answered_us Array(Nullable(Int64)),
    as_of_us Array(Nullable(Int64)),
    impressions Array(Nullable(Int64)),
    clicks Array(Nullable(Int64)),
    purchases Array(Nullable(Int64)),
    expected_clicks Array(Nullable(Float64)),
    coec Array(Nullable(Float64)),
    event_time DateTime64(3, 'UTC'),
    version UInt8,
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(event_time)
ORDER BY (toDate(event_time), event_id)
SETTINGS non_replicated_deduplication_window = 1000;

-- One row an audit: how many of the reads logged from first_us to last_us training sees as serving did.
-- not_comparable counts the others by reason; examples is JSON, the first differences.
CREATE TABLE IF NOT EXISTS feature_audits
(
    audit_id UUID,
    view LowCardinality(String),
    share Float64,
    seed UInt64,
    first_us Int64,
    last_us Int64,
    searches UInt64,
    reads UInt64,
    equal UInt64,
    different UInt64,
    not_comparable Map(LowCardinality(String), UInt64),
    examples String,
    event_time DateTime64(3, 'UTC'),
    version UInt8,
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (view, event_time, audit_id)
SETTINGS non_replicated_deduplication_window = 1000;
