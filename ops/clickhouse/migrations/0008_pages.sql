-- What the pages of the loop and of a pair need: which update learned a judgement, and a pair's events beside each other.

-- identity is the name that `student_updates` has for the judgement, empty where it has none; sampled_at is null where
-- nobody told it.
ALTER TABLE judgements
    ADD COLUMN IF NOT EXISTS identity String,
    ADD COLUMN IF NOT EXISTS traffic_class LowCardinality(String),
    ADD COLUMN IF NOT EXISTS sampled_at Nullable(DateTime64(3, 'UTC'));

-- used and held_back are identities of judgements that are new in this update: learned from unless the outcome is
-- halted, and kept for the gate. offsets is JSON, the next ones of every "topic/partition".
ALTER TABLE student_updates
    ADD COLUMN IF NOT EXISTS used Array(String),
    ADD COLUMN IF NOT EXISTS held_back Array(String),
    ADD COLUMN IF NOT EXISTS offsets String;

-- Impressions and attributed clicks by pair: `impressions` is ordered by time, and a pair would be looked for in all
-- of it. Rows of a search that has not been seen have no query and come again when it has.
CREATE TABLE IF NOT EXISTS pair_events
(
    normalised_query String,
    item_id String,
    kind LowCardinality(String),
    event_id UUID,
    impression_id UUID,
    position UInt16,
    score Nullable(Float32),
    student_version LowCardinality(String),
    event_time DateTime64(3, 'UTC'),
    ingested_at DateTime64(3, 'UTC'),
    version UInt8
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (normalised_query, item_id, kind, event_id)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE MATERIALIZED VIEW IF NOT EXISTS pair_impressions TO pair_events AS
SELECT normalised_query, item_id, 'impression' AS kind, event_id, event_id AS impression_id, position, score,
    student_version, event_time, ingested_at, version
FROM impressions WHERE normalised_query != '';

CREATE MATERIALIZED VIEW IF NOT EXISTS pair_clicks TO pair_events AS
SELECT normalised_query, item_id, 'click' AS kind, event_id, impression_id, position, CAST(NULL AS Nullable(Float32)) AS score,
    student_version, event_time, ingested_at, version
FROM clicks WHERE normalised_query != '' AND attribution = 'impression';

INSERT INTO pair_events
SELECT normalised_query, item_id, 'impression', event_id, event_id, position, score, student_version, event_time,
    ingested_at, version
FROM impressions FINAL WHERE normalised_query != '';

INSERT INTO pair_events
SELECT normalised_query, item_id, 'click', event_id, impression_id, position, NULL, student_version, event_time,
    ingested_at, version
FROM clicks FINAL WHERE normalised_query != '' AND attribution = 'impression';
