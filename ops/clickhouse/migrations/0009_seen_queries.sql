-- Every query that anything was shown for, once: what a search by words goes through.
CREATE TABLE IF NOT EXISTS seen_queries
(
    normalised_query String,
    last_seen SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = AggregatingMergeTree
ORDER BY normalised_query
SETTINGS non_replicated_deduplication_window = 1000;

CREATE MATERIALIZED VIEW IF NOT EXISTS query_sightings TO seen_queries AS
SELECT normalised_query, max(event_time) AS last_seen
FROM impressions WHERE normalised_query != '' GROUP BY normalised_query;

INSERT INTO seen_queries
SELECT normalised_query, max(event_time) FROM impressions WHERE normalised_query != '' GROUP BY normalised_query;
