-- Every step of a student's version: published, refused, promoted, rolled_back, pinned, unpinned, retired.

-- champion, challenger and previous are what holds after the step (0: none); step_id counts a repository's steps.
ALTER TABLE student_versions
    ADD COLUMN IF NOT EXISTS step LowCardinality(String) AFTER kind,
    ADD COLUMN IF NOT EXISTS step_id UInt64 AFTER step,
    ADD COLUMN IF NOT EXISTS champion UInt64 AFTER decision,
    ADD COLUMN IF NOT EXISTS challenger UInt64 AFTER champion,
    ADD COLUMN IF NOT EXISTS previous UInt64 AFTER challenger,
    ADD COLUMN IF NOT EXISTS pinned Bool AFTER previous,
    MODIFY ORDER BY (student_version, kind, step, step_id);
