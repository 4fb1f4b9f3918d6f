-- One row an update of a student: what it took and learned from, what the gate found, which guards fired. A row is
-- sent again, version 2, once it is known what became of an update that passed.

-- outcome: passed, kept (the champion stays) or halted (a guard fired: alarms says which; publishing is stopped).
-- figures, ranges and alarms are JSON; seconds from judged and from sampled to trained are means, null where no time
-- was told.
CREATE TABLE IF NOT EXISTS student_updates
(
    kind LowCardinality(String),
    update_id UInt64,
    parent_update UInt64,
    student_version String,
    outcome LowCardinality(String),
    why String,
    alarms String,
    figures String,
    ranges String,
    judgements UInt32,
    held_out UInt32,
    duplicates UInt32,
    refused UInt32,
    fresh UInt32,
    replayed UInt32,
    seconds Float64,
    judged_to_trained_s Nullable(Float64),
    sampled_to_trained_s Nullable(Float64),
    event_time DateTime64(3, 'UTC'),
    version UInt8,
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (kind, update_id, event_time)
SETTINGS non_replicated_deduplication_window = 1000;
