"""Assignment, statistics, guardrails and the report of an online experiment."""
