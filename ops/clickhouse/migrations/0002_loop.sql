-- What the teacher judged and which students came of it.

CREATE TABLE IF NOT EXISTS judgements
(
    query String,
    item_id String,
    content_hash String,
    teacher_id LowCardinality(String),
    prompt_hash LowCardinality(String),
    relevance_score Float32,
    grades Map(LowCardinality(String), Float32),
    verdicts String,
    chain_of_thought String,
    latency_ms Float32,
    prompt_tokens UInt32,
    completion_tokens UInt32,
    event_time DateTime64(3, 'UTC'),
    version UInt8,
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (query, item_id, content_hash, teacher_id, prompt_hash)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS student_versions
(
    student_version String,
    parent_version String,
    kind LowCardinality(String),
    decision LowCardinality(String),
    gate String,
    offsets String,
    event_time DateTime64(3, 'UTC'),
    version UInt8,
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (student_version, kind)
SETTINGS non_replicated_deduplication_window = 1000;
