-- What is read beside a pair: its text, what the chain of thought found, and what the teacher refused or scored.

-- mismatches: the subtasks whose verdict is mismatch. quotes: how many quotations the chain gives, those that
-- stand in neither text (unlocated) among them. cached_tokens are part of prompt_tokens.
ALTER TABLE judgements
    ADD COLUMN IF NOT EXISTS item_text String AFTER prompt_hash,
    ADD COLUMN IF NOT EXISTS grade LowCardinality(String) AFTER item_text,
    ADD COLUMN IF NOT EXISTS mismatches Array(LowCardinality(String)) AFTER verdicts,
    ADD COLUMN IF NOT EXISTS quotes UInt16 AFTER mismatches,
    ADD COLUMN IF NOT EXISTS unlocated UInt16 AFTER quotes,
    ADD COLUMN IF NOT EXISTS cached_tokens UInt32 AFTER prompt_tokens;

-- The newest answer for a pair that was no judgement.
CREATE TABLE IF NOT EXISTS teacher_refusals
(
    query String,
    item_id String,
    content_hash String,
    teacher_id LowCardinality(String),
    prompt_hash LowCardinality(String),
    reason LowCardinality(String),
    detail String,
    event_time DateTime64(3, 'UTC'),
    version UInt8,
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (query, item_id, content_hash, teacher_id, prompt_hash)
SETTINGS non_replicated_deduplication_window = 1000;

-- What a report says of a teacher, above all how far it agrees with people: one row for each figure. low and high
-- are its interval if it has one; why is said where there is no value.
CREATE TABLE IF NOT EXISTS teacher_reports
(
    report_id String,
    teacher_id LowCardinality(String),
    prompt_hash LowCardinality(String),
    data_set LowCardinality(String),
    metric LowCardinality(String),
    value Nullable(Float64),
    low Nullable(Float64),
    high Nullable(Float64),
    why String,
    n_pairs UInt32,
    n_queries UInt32,
    event_time DateTime64(3, 'UTC'),
    version UInt8,
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (data_set, teacher_id, prompt_hash, report_id, metric)
SETTINGS non_replicated_deduplication_window = 1000;
